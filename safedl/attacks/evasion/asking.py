"""What attacks by questions share: asking about many points, and gradients estimated from the answers."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from safedl.attacks.evasion.gradient import margin
from safedl.models.classifier import Classifier

CHUNK = 1024
"""Points at which the model is asked at once."""

Draw = Callable[[tuple[int, ...]], Tensor]
"""Returns random directions of a shape, on the CPU."""


def random_signs(shape: tuple[int, ...], rng: torch.Generator) -> Tensor:
    """Return -1 or 1, each as likely, in `shape`, float32 on the CPU."""
    return torch.randint(0, 2, shape, generator=rng, dtype=torch.float32) * 2 - 1


@torch.no_grad()
def scores(model: Classifier, points: Tensor) -> Tensor:
    """Return the model's scores [N, K] for points [N, C, H, W]."""
    return torch.cat([model(part) for part in points.split(CHUNK)])


def estimate_gradient(
    model: Classifier, images: Tensor, labels: Tensor, spread: float, pairs: int, draw: Draw
) -> Tensor:
    """Return the gradient [N, C, H, W] of each image's margin, estimated from 2 `pairs` questions about it.

    The mean of v (f(x + spread v) - f(x - spread v)) / (2 spread) over directions v, each with its opposite. The
    margin replaces the loss: it does not go flat where the model is certain. Only valid images are asked about.
    """
    count, total = len(images), torch.zeros_like(images)
    group = max(1, CHUNK // (2 * count))
    for start in range(0, pairs, group):
        size = min(group, pairs - start)
        directions = draw((size, *images.shape)).to(images.device)
        points = torch.stack([images + spread * directions, images - spread * directions]).clamp(0, 1).flatten(0, 2)
        ahead, behind = margin(scores(model, points), labels.repeat(2 * size)).view(2, size, count)
        total += torch.einsum("gn,gnchw->nchw", (ahead - behind) / (2 * spread), directions)
    return total / pairs
