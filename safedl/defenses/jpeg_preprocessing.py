"""Compress every image by JPEG before the model sees it (Dziugaite, Ghahramani, Roy, 2016).

Compression drops the fine detail in which small perturbations sit. It has no gradient; the attacker who knows takes the
identity's instead (BPDA: Athalye, Carlini, Wagner, ICML 2018).
"""

from __future__ import annotations

from io import BytesIO
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from safedl.catalog.defenses.evasion import JpegPreprocessingParams
from safedl.defenses.contract import Scenario
from safedl.defenses.guard import Guard, straight_through
from safedl.errors import UsageError
from safedl.models.classifier import Classifier


def guard(scenario: Scenario, params: JpegPreprocessingParams) -> Guard:
    """Put JPEG compression before the model. Raises `UsageError` for images that are neither grey nor in colour."""
    channels = scenario.model.shape[0]
    if channels not in (1, 3):
        raise UsageError(
            f"jpeg_preprocessing: JPEG holds images of 1 or 3 channels, these have {channels}; choose another defense"
        )
    return wrap(scenario.model, params)


def wrap(model: Classifier, params: JpegPreprocessingParams) -> Guard:
    """Put JPEG compression before `model`."""
    return JpegClassifier(model, params.quality)


class JpegClassifier(Guard):
    """A classifier of compressed images."""

    hides_gradient = True
    outside_graph = "JPEG compression is no tensor operation"

    def __init__(self, inner: Classifier, quality: int) -> None:
        """Compress by `quality`, 1 to 100, before `inner`."""
        super().__init__(inner)
        self.quality = quality

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits [N, K] of the compressed images."""
        return self.classify(compress(images, self.quality))

    def surrogate(self, images: Tensor) -> Tensor:
        """Return the same logits, with the gradient as if compression changed nothing."""
        return self.classify(straight_through(images, compress(images, self.quality)))


@torch.no_grad()
def compress(images: Tensor, quality: int) -> Tensor:
    """Return float images [N, C, H, W] in [0, 1], C 1 or 3, as they are after compression; without a gradient."""
    pixels = (images * 255).round().clamp(0, 255).to("cpu", torch.uint8).movedim(1, -1).numpy()
    made = np.stack([_through_file(image, quality) for image in pixels]) if len(pixels) else pixels
    return torch.from_numpy(made).movedim(-1, 1).to(images.device).float().div_(255)


def _through_file(pixels: NDArray[Any], quality: int) -> NDArray[Any]:
    """Return uint8 pixels [H, W, C] after compression."""
    file = BytesIO()
    Image.fromarray(pixels.squeeze(-1) if pixels.shape[-1] == 1 else pixels).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file)).reshape(pixels.shape)
