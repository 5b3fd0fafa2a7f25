"""Random shifts and mirror images, computed for a whole batch at once."""

from __future__ import annotations

import torch
from torch import Tensor


def augment(images: Tensor, kind: str, rng: torch.Generator) -> Tensor:
    """Return uint8 images [B, C, H, W], each shifted (and mirrored) at random.

    `kind`: none, shift (by up to an eighth of the side, edges repeated) or shift_flip.
    """
    if kind == "none":
        return images
    count, _, height, width = images.shape
    images = _take(images, _offsets(count, height, rng), dim=2)
    images = _take(images, _offsets(count, width, rng), dim=3)
    if kind == "shift_flip":
        mirrored = torch.rand(count, generator=rng).lt(0.5).to(images.device)
        images = torch.where(mirrored.view(-1, 1, 1, 1), images.flip(3), images)
    return images


def _offsets(count: int, side: int, rng: torch.Generator) -> Tensor:
    reach = max(1, side // 8)
    shift = torch.randint(-reach, reach + 1, (count, 1), generator=rng)
    return (torch.arange(side).unsqueeze(0) + shift).clamp_(0, side - 1)


def _take(images: Tensor, index: Tensor, dim: int) -> Tensor:
    shape = [len(images), 1, 1, 1]
    shape[dim] = images.shape[dim]
    return images.gather(dim, index.to(images.device).view(shape).expand_as(images))
