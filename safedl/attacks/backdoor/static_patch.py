"""Static patch: a fixed patch in training images calls the target class (Gu, Dolan-Gavitt, Garg: BadNets, 2017)."""

from __future__ import annotations

import torch
from torch import Tensor

from safedl.attacks.backdoor.planting import plant
from safedl.attacks.contract import AttackContext, Poisoning, Trigger
from safedl.attacks.selection import check_class
from safedl.catalog.attacks.backdoor import StaticPatchParams
from safedl.data.imageset import ImageSet

SMALLEST_SIDE = 2
"""Pixels; one pixel is no patch, and max pooling in small images makes it hard to tell from noise."""


def poison(data: ImageSet, params: StaticPatchParams, context: AttackContext) -> Poisoning:
    """Return `data` with a patch on `poison_fraction` of all samples. Raises `UsageError` for a class out of range."""
    check_class("static_patch.target_class", params.target_class, context.num_classes)
    channels, height, width = data.images.shape[1:]
    trigger = make_trigger((channels, height, width), params, context.rng)
    return plant(
        data, trigger, context,
        target=params.target_class, fraction=params.poison_fraction, label_mode=params.label_mode,
        details={
            "patch_type": params.patch_type,
            "patch_position": params.patch_position,
            "patch_side": patch_side(height, width, params.patch_size_ratio),
            "blend_alpha": params.blend_alpha,
        },
    )  # fmt: skip


def make_trigger(shape: tuple[int, int, int], params: StaticPatchParams, rng: torch.Generator) -> Trigger:
    """Return the patch for images of `shape` (C, H, W), flush with the corner or in the centre."""
    channels, height, width = shape
    side = patch_side(height, width, params.patch_size_ratio)
    top, left = patch_corner(height, width, side, params.patch_position)
    pattern, mask = torch.zeros(shape), torch.zeros(1, height, width)
    pattern[:, top : top + side, left : left + side] = _patch(params.patch_type, channels, side, rng)
    mask[:, top : top + side, left : left + side] = params.blend_alpha
    return Trigger(pattern, mask)


def patch_side(height: int, width: int, ratio: float) -> int:
    """Return the side of a square in pixels: `ratio` of the image's shorter side, rounded, but at least 2."""
    shorter = min(height, width)
    return min(shorter, max(SMALLEST_SIDE, round(ratio * shorter)))


def patch_corner(height: int, width: int, side: int, position: str) -> tuple[int, int]:
    """Return row and column of a square's upper left pixel."""
    if position == "center":
        return (height - side) // 2, (width - side) // 2
    vertical, horizontal = position.split("_")
    return (0 if vertical == "top" else height - side), (0 if horizontal == "left" else width - side)


def _patch(kind: str, channels: int, side: int, rng: torch.Generator) -> Tensor:
    """Return what the patch shows, float [C, side, side] in [0, 1]."""
    if kind == "random_noise":
        return torch.rand(channels, side, side, generator=rng)
    if kind == "checkerboard":
        rows = torch.arange(side)
        return ((rows[:, None] + rows[None, :]) % 2 == 0).float().expand(channels, side, side)
    return torch.ones(channels, side, side)
