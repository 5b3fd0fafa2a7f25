"""A context for attacks, and classifiers that are simple enough to know the answer."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from safedl.attacks.contract import AttackContext
from safedl.data.imageset import ImageSet
from safedl.models.classifier import Classifier


def make_context(seed: int = 0, num_classes: int = 10, clean_model: Classifier | None = None) -> AttackContext:
    return AttackContext(torch.Generator().manual_seed(seed), num_classes, torch.device("cpu"), clean_model)


def random_images(
    count: int, shape: tuple[int, int, int] = (1, 8, 8), num_classes: int = 10, seed: int = 0
) -> ImageSet:
    """Return noise; the classes follow each other, so that each has the same number of images."""
    rng = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 256, (count, *shape), generator=rng, dtype=torch.uint8)
    return ImageSet(images, torch.arange(count) % num_classes)


def pixel_classifier(shape: tuple[int, int, int] = (1, 8, 8), weight: Tensor | None = None) -> Classifier:
    """Return a linear classifier without bias, so that the penultimate features are the pixels themselves.

    `weight`: float [10, C * H * W], zeros by default.
    """
    channels, height, width = shape
    head = nn.Linear(channels * height * width, 10, bias=False)
    head.weight.data = torch.zeros_like(head.weight) if weight is None else weight
    return Classifier(nn.Sequential(nn.Flatten(), head), [0.0] * channels, [1.0] * channels, shape)
