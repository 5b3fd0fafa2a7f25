"""Hide the gradient: round pixels to few levels and saturate the answer.

What looks like robustness is that attacks by gradients find none (Athalye, Carlini, Wagner, ICML 2018). It is here to
be measured: predictions change by the rounding alone, and an attacker who knows differentiates around both.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from safedl.catalog.defenses.evasion import GradientMaskingParams
from safedl.defenses.contract import Scenario
from safedl.defenses.guard import Guard, straight_through
from safedl.models.classifier import Classifier

FACTOR = 2.0**14
"""What logits are multiplied by: exact in floating point, and a lead of 0.01 becomes a softmax of 1 in float32."""


def guard(scenario: Scenario, params: GradientMaskingParams) -> Guard:
    """Round the model's pixels, and saturate its logits."""
    return wrap(scenario.model, params)


def wrap(model: Classifier, params: GradientMaskingParams) -> Guard:
    """Round the pixels of `model`, and saturate its logits."""
    return MaskedClassifier(model, levels(params.strength))


def levels(strength: float) -> int:
    """Return the number of levels of a pixel: 256 for strength 0 falls by halves to 2 for strength 1."""
    return round(2 ** (8 - 7 * strength))


class MaskedClassifier(Guard):
    """A classifier of rounded images, with saturated logits."""

    hides_gradient = True

    def __init__(self, inner: Classifier, levels: int) -> None:
        """Round pixels to `levels` values from 0 to 1, at least 2, before `inner`."""
        super().__init__(inner)
        self.levels = levels

    @property
    def details(self) -> Mapping[str, Any]:
        """What becomes keys of the defense's result."""
        return {"levels": self.levels, "logit_factor": FACTOR}

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits [N, K] of the rounded images, saturated."""
        return self.classify(self._rounded(images)) * FACTOR

    def surrogate(self, images: Tensor) -> Tensor:
        """Return the logits [N, K] without saturation, with the gradient as if rounding changed nothing."""
        return self.classify(straight_through(images, self._rounded(images)))

    def _rounded(self, images: Tensor) -> Tensor:
        steps = self.levels - 1
        return (images * steps).round() / steps
