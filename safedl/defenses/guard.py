"""A classifier behind a guard: something that treats its images, or how it answers, when it serves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from safedl.models.classifier import Classifier
from safedl.progress import SILENT, Progress


class Guard(Classifier):
    """A guarded classifier: `forward` is what serves, `surrogate` what an attacker who knows the guard differentiates.

    It shares the layers of the classifier that it guards, and so their names. `forward` is a function of the images
    alone: noise comes from a fixed seed.
    """

    hides_gradient = False
    """Whether `forward` has no useful gradient, so that an attacker who does not know of the guard is misled."""
    outside_graph = ""
    """Why it cannot be exported as a graph of tensor operations; empty if it can."""
    certify_images = 0
    """How many test images to certify, for a guard that can."""

    @property
    def details(self) -> Mapping[str, Any]:
        """What becomes keys of the defense's result."""
        return {}

    def __init__(self, inner: Classifier) -> None:
        """Guard `inner`, whose layers are shared, not copied; they are frozen, in eval mode."""
        nn.Module.__init__(self)
        self.net = inner.net
        self.register_buffer("mean", inner.mean)
        self.register_buffer("std", inner.std)
        self.shape, self.head, self.penultimate = inner.shape, inner.head, inner.penultimate
        self.channels_last = inner.channels_last
        self.eval().requires_grad_(False)

    def classify(self, images: Tensor) -> Tensor:
        """Return the logits [N, K] of the classifier without its guard."""
        return super().forward(images)

    def certified_radii(self, images: Tensor, labels: Tensor, progress: Progress = SILENT) -> Tensor:
        """Return the L2 radius [N] within which the answer for float images [N, C, H, W] is certified, on the CPU.

        -1 where the answer is wrong or withheld. Raises `NotImplementedError` for a guard that certifies nothing.
        """
        raise NotImplementedError


def straight_through(images: Tensor, treated: Tensor) -> Tensor:
    """Return `treated` with the gradient of the identity (BPDA: Athalye, Carlini, Wagner, ICML 2018)."""
    return images + (treated - images).detach()


def seeded_noise(shape: tuple[int, ...], seed: int, device: torch.device) -> Tensor:
    """Return standard normal noise of `shape` that depends on `seed` alone, float32."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(device)
