"""What a run has to tell: everything that its result file, report and pictures are made of. Arrays are numpy's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Example:
    """One picture.

    `image`: uint8 [C, H, W]; `original`: the same before poisoning; `index`: its position in the training (or test)
    set; `poisoned`: None where that does not apply; `score`: a detector's, higher is more suspicious.
    """

    image: NDArray[np.uint8]
    index: int
    true_label: int
    given_label: int
    poisoned: bool | None
    score: float | None = None
    original: NDArray[np.uint8] | None = None
    predicted_label: int | None = None


@dataclass(frozen=True)
class Outcome:
    """A finished run, before anything is written.

    `scores`: float [N]; `labels`: int64 [N], as the victim sees them; `poisoned`, `flagged`: bool [N];
    `attacked`, `attacked_labels`, `robust`: int64, positions and classes of the test images attacked, and positions of
    those still classified right;
    `histograms`: one-dimensional values by name; `trigger`: float [C, H, W] in [0, 1];
    `trigger_mask`: float [1, H, W] in [0, 1], the trigger's opacity.
    """

    uid: str
    kind: str
    """baseline, attack, defense, bound or scan."""
    category: str | None
    attack: str | None
    defense: str | None
    dataset: str
    model: str
    seed: int
    layer: str
    """The name of the penultimate layer."""
    classes: tuple[str, ...]
    params: Mapping[str, Any]
    """The whole chain: `training.epochs`, `attack.flip_rate`, `defense.threshold` ..."""
    metrics: Mapping[str, float]
    """Flat: `clean_accuracy`, `clean_accuracy.<class>`, `asr`, `asr.<class>`, `tpr` ..."""
    before: Mapping[str, float]
    """The metrics of the model that this stage starts from: attacked (defense, bound), clean (attack), or none."""
    baseline: Mapping[str, float]
    details: Mapping[str, Any]
    """What the method alone can tell; becomes keys of the result."""
    timing: Mapping[str, float]
    """All that depends on the clock or the machine."""
    notes: tuple[str, ...]
    examples: tuple[Example, ...] = ()
    scores: NDArray[Any] | None = None
    labels: NDArray[Any] | None = None
    poisoned: NDArray[Any] | None = None
    flagged: NDArray[Any] | None = None
    attacked: NDArray[Any] | None = None
    attacked_labels: NDArray[Any] | None = None
    robust: NDArray[Any] | None = None
    histograms: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    trigger: NDArray[Any] | None = None
    trigger_mask: NDArray[Any] | None = None
    sheet: tuple[NDArray[np.uint8], ...] = ()
    """Images uint8 [C, H, W] of one size for a contact sheet."""


@dataclass(frozen=True)
class Pictures:
    """The image files of a run, as paths relative to its folder.

    `examples` has one path per example, in their order; `histograms` has names as the data gives them, with paths;
    `trigger` has the paths of `trigger`, `mask` and `overlay`; `sheet` is the contact sheet's.
    """

    examples: tuple[str, ...] = ()
    histograms: tuple[tuple[str, str], ...] = ()
    trigger: Mapping[str, str] = field(default_factory=dict)
    sheet: str | None = None
