"""What defenses that rely on the trusted holdout share."""

from __future__ import annotations

import torch
from torch import Tensor

from safedl.defenses.contract import Scenario
from safedl.errors import UsageError


def require_trusted(
    scenario: Scenario, defense: str, otherwise: str = "choose variant: literal", fewest: int = 1
) -> None:
    """Raise `UsageError` if fewer than `fewest` images are trusted; `otherwise` is what else can be done about it."""
    count = len(scenario.trusted)
    if count < fewest:
        raise UsageError(
            f"{defense}: needs trusted data, and {count} images are held out; set dataset.trusted_fraction above 0 "
            f"(a class of five images or more gives some) or {otherwise}"
        )


def judged(scenario: Scenario) -> Tensor:
    """Return which samples, bool [N], have a label of which there are trusted images; the log names other classes.

    Nothing vouches for samples of a class too small to hold any out: all of them would look wrong.
    """
    known = torch.bincount(scenario.trusted.labels, minlength=scenario.num_classes) > 0
    for label in scenario.data.labels.unique().tolist():
        if not known[label]:
            scenario.bench.progress.log(f"class '{scenario.classes[label]}' is not judged: it has no trusted images")
    return known[scenario.data.labels]
