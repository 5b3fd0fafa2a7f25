"""The built-in architectures. Layer names are those that profiles refer to; `safedl.catalog.models` lists them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, nn

from safedl.catalog.models import check_params
from safedl.errors import UsageError
from safedl.loading import LOADING

Shape = tuple[int, int, int]
"""Channels, height, width."""


class Cnn(nn.Module):
    """Two convolutions and two linear layers: `conv.0`, `conv.3`, `fc.1` (penultimate), `fc.3` (head)."""

    def __init__(self, shape: Shape, num_classes: int, conv_filters: int = 32, hidden_size: int = 128) -> None:
        super().__init__()
        channels, height, width = shape
        first_pool = 2 if min(height, width) >= 16 else 1
        side = 2 * first_pool
        if min(height, width) < side:
            raise UsageError(f"model 'cnn' needs images of at least {side} pixels a side, not {height}x{width}")
        self.conv = nn.Sequential(
            nn.Conv2d(channels, conv_filters, 3, padding=1),
            nn.BatchNorm2d(conv_filters),
            nn.Sequential(nn.MaxPool2d(2) if first_pool == 2 else nn.Identity(), nn.ReLU()),
            nn.Conv2d(conv_filters, 2 * conv_filters, 3, padding=1),
            nn.BatchNorm2d(2 * conv_filters),
            nn.MaxPool2d(2),  # before ReLU: the same values and slopes, a quarter of the work
            nn.ReLU(),
        )
        flat = 2 * conv_filters * (height // side) * (width // side)
        self.fc = nn.Sequential(
            nn.Flatten(), nn.Linear(flat, hidden_size), nn.ReLU(), nn.Linear(hidden_size, num_classes)
        )

    def forward(self, images: Tensor) -> Tensor:
        """Return logits [N, K] of normalised images [N, C, H, W]."""
        logits: Tensor = self.fc(self.conv(images))
        return logits


class Mlp(nn.Module):
    """One hidden layer: `hidden` (penultimate) and `output` (head)."""

    def __init__(self, shape: Shape, num_classes: int, hidden_size: int = 128, input_size: int | None = None) -> None:
        super().__init__()
        flat = math.prod(shape)
        if input_size is not None and input_size != flat:
            raise UsageError(f"model.params.input_size: {input_size} given, but the images have {flat} values")
        self.hidden = nn.Linear(flat, hidden_size)
        self.activation = nn.ReLU()
        self.output = nn.Linear(hidden_size, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits [N, K] of normalised images [N, C, H, W]."""
        logits: Tensor = self.output(self.activation(self.hidden(images.flatten(1))))
        return logits


def make(name: str, shape: Shape, num_classes: int, params: Mapping[str, Any]) -> nn.Module:
    """Return the architecture `name` with freshly drawn weights.

    Raises `UsageError` for an unknown name or parameter, and for images that it cannot take.
    """
    checked = check_params(name, params)
    return _maker(name)(shape, num_classes, **checked.model_dump())


def _maker(name: str) -> Callable[..., nn.Module]:
    if name in ("resnet18", "resnet50"):
        with LOADING:
            from safedl.models import resnet

        return resnet.resnet18 if name == "resnet18" else resnet.resnet50
    if name == "vit":
        with LOADING:
            from safedl.models.vit import VitSmall

        return VitSmall
    return Cnn if name == "cnn" else Mlp
