"""What each detector says about suspects, on one scale: the share of clean images that look as bad."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from safedl import catalog
from safedl.defenses import load
from safedl.defenses.contract import Detection, Scenario

BACKDOOR = ("activation_clustering", "spectral_signatures", "anomaly_detection")
FOLDS = 2
"""Of data_cleaning: a scan is asked about sets so large that half of one teaches as much as two thirds."""


@dataclass(frozen=True)
class Opinion:
    """One detector's view of N samples.

    `scores`: float [N] in [0, 1], one minus the share of clean images that score as high; `flagged`: bool [N];
    `classes`: the indices of the classes that it holds suspicious as such; `details`: the detector's own.
    """

    detector: str
    scores: Tensor
    flagged: Tensor
    classes: tuple[int, ...]
    details: dict[str, Any]


def ask(scenario: Scenario, detector: str, rate: float, **params: Any) -> Opinion:
    """Return a detector's opinion; what it flags scores higher than all but the share `rate` of clean images.

    Clean images are the trusted ones, each judged as if it were not. Without any, they are those samples that the
    detector leaves alone.
    """
    spec = catalog.defense(detector)
    found: Detection = load(spec)(scenario, spec.params.model_validate(params))
    reference = found.scores[~found.flagged] if found.reference is None else found.reference
    scores = calibrate(found.scores, reference)
    flagged = found.flagged & (scores >= 1 - rate)
    names = found.details.get("suspicious_classes", ())
    return Opinion(detector, scores, flagged, tuple(map(scenario.classes.index, names)), dict(found.details))


def calibrate(scores: Tensor, reference: Tensor) -> Tensor:
    """Return one minus the share of `reference` scores [M] that are at least as high, float [N] in [0, 1].

    Without a reference nothing can be said: all are 0.
    """
    if not len(reference):
        return torch.zeros(len(scores))
    below = torch.searchsorted(reference.sort().values, scores.to(reference.dtype))
    return below.float() / len(reference)
