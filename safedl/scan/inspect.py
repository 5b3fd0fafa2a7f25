"""The scan of a model: is there a class that a suspiciously small trigger calls?"""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch import Tensor

from safedl.catalog.defenses.backdoor import FEWEST_CLASSES
from safedl.defenses.contract import Scenario
from safedl.defenses.reversed_trigger import find_small_triggers, reverse_triggers
from safedl.models.classifier import Classifier


@dataclass(frozen=True)
class Inspection:
    """What was found in a model; `suspicious`: class indices, the most suspicious first.

    `pattern`: float [C, H, W] and `mask`: float [1, H, W] of the reconstructed trigger, in [0, 1], or None; `size`,
    `reference`, `index`: by class, see `safedl.defenses.reversed_trigger`.
    """

    suspicious: tuple[int, ...]
    pattern: Tensor | None
    mask: Tensor | None
    size: tuple[float, ...]
    reference: tuple[float, ...]
    index: tuple[float, ...]


def inspect(scenario: Scenario, suspect: Classifier) -> Inspection | None:
    """Reconstruct the smallest trigger of each class, on trusted images (Wang et al.: Neural Cleanse, S&P 2019).

    Returns None where there are too few classes to compare.
    """
    if scenario.num_classes < FEWEST_CLASSES:
        return None
    found = find_small_triggers(replace(scenario, model=suspect.clone()))
    target = found.suspicious[0] if found.suspicious else None
    return Inspection(
        suspicious=tuple(found.suspicious),
        pattern=None if target is None else found.triggers.patterns[target],
        mask=None if target is None else found.triggers.masks[target],
        size=tuple(found.triggers.sizes.tolist()),
        reference=tuple(found.reference_sizes.tolist()),
        index=tuple(found.index.tolist()),
    )


def reconstruct(scenario: Scenario, target: int) -> tuple[Tensor, Tensor, float]:
    """Return pattern [C, H, W], mask [1, H, W] and size (share of the image) of the smallest trigger of a class."""
    found = reverse_triggers(scenario, [target], phase="reconstruct the trigger")
    return found.patterns[0], found.masks[0], float(found.sizes[0])
