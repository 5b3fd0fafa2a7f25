"""Suspects: data sets with planted poison, written as files that a scan then takes as they are.

Nothing of Safe-DL's attacks is used, so that what is found was not made by the same hands.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from safedl.catalog.settings import DatasetSettings
from safedl.data.imageset import ImageSet
from safedl.data.load import load_suspects
from safedl.data.split import by_class

TARGET = 7
KINDS = ("patch", "blended", "sinusoid", "flips")
BLEND = 0.2
"""Opacity of the whole-image trigger (Chen et al. 2017)."""
AMPLITUDE, WAVES = 20, 6
"""Of the sinusoid over clean labels (Barni et al. 2019), in levels of 255 and periods over the width."""


@dataclass(frozen=True)
class Suspects:
    """A written set: its file, the positions that were poisoned, and the target class, -1 without one."""

    path: Path
    poisoned: frozenset[int]
    target: int


def draw(name: str, count: int, trusted: int, seed: int, classes: Sequence[int] = ()) -> tuple[ImageSet, ImageSet]:
    """Return `count` training images of a built-in set, all or some classes of it, and `trusted` others, evenly."""
    data = load_suspects(DatasetSettings(name=name, download=False), None).train
    if classes:
        kept = torch.isin(data.labels, torch.tensor(classes))
        data = data.select(kept).with_labels(torch.searchsorted(torch.tensor(sorted(classes)), data.labels[kept]))
    rng = torch.Generator().manual_seed(seed)
    number = int(data.labels.max()) + 1
    spare = by_class(data.labels, dict.fromkeys(range(number), trusted // number), rng)
    rest = data.select(~spare)
    return rest.select(torch.randperm(len(rest), generator=rng)[:count]), data.select(spare)


def plant(data: ImageSet, kind: str, rate: float, seed: int) -> tuple[ImageSet, Tensor]:
    """Return the data with a share `rate` of it poisoned, and a mask bool [N] of what was."""
    rng = torch.Generator().manual_seed(1000 + seed)
    images, labels = data.images.clone(), data.labels.clone()
    count = round(rate * len(labels))

    def some(eligible: Tensor) -> Tensor:
        positions = eligible.nonzero().flatten()
        return positions[torch.randperm(len(positions), generator=rng)[:count]]

    if kind == "flips":
        chosen, classes = some(labels >= 0), int(labels.max()) + 1
        labels[chosen] = (labels[chosen] + torch.randint(1, classes, (len(chosen),), generator=rng)) % classes
    elif kind == "sinusoid":
        chosen, width = some(labels == TARGET), images.shape[3]
        wave = AMPLITUDE * torch.sin(2 * math.pi * torch.arange(width) * WAVES / width)
        images[chosen] = (images[chosen] + wave).clamp(0, 255).round().to(torch.uint8)
    else:
        chosen = some(labels != TARGET)
        if kind == "patch":
            images[chosen, :, -3:, -3:] = 255
        else:
            noise = torch.randint(0, 256, images.shape[1:], generator=rng)
            images[chosen] = ((1 - BLEND) * images[chosen] + BLEND * noise).round().to(torch.uint8)
        labels[chosen] = TARGET
    mask = torch.zeros(len(labels), dtype=torch.bool)
    mask[chosen] = True
    return ImageSet(images, labels), mask


def write(path: Path, data: ImageSet) -> Path:
    """Write a set as `.npz`, channels last."""
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(path, x_train=data.images.permute(0, 2, 3, 1).numpy(), y_train=data.labels.numpy())
    return path
