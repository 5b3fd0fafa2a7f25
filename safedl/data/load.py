"""From settings to a data set, split for a seed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from safedl.cache import digest
from safedl.catalog.settings import DatasetSettings
from safedl.data import sources
from safedl.data.imageset import Dataset, tensor_digest
from safedl.data.split import hold_out, subset, trusted_counts
from safedl.errors import UsageError
from safedl.progress import SILENT, Progress

TEST_FRACTION = 0.28
"""Share of the images that measure, where a set brings no test part of its own (500 of the 1,797 digits)."""


def load(
    settings: DatasetSettings,
    seed: int,
    folders: Sequence[Path] = (),
    progress: Progress = SILENT,
    shape: tuple[int, int, int] | None = None,
) -> Dataset:
    """Return the data set that `settings` names, split by `seed`.

    `folders` are searched for relative paths, in order. `shape` (C, H, W) is what the model announces: image files
    are resized to its height and width. Raises `UsageError` for anything that cannot be read.
    """
    raw = sources.read(settings, folders, shape, progress)
    classes = _names(raw.classes)
    rng = torch.Generator().manual_seed(seed)
    train, test = raw.train, raw.test
    if test is None:
        sizes = torch.bincount(train.labels).tolist()
        train, test = hold_out(train, {c: round(TEST_FRACTION * n) for c, n in enumerate(sizes)}, rng)
    if settings.subset:
        train = subset(train, settings.subset, rng)
    train, trusted = hold_out(train, trusted_counts(train.labels, settings.trusted_fraction), rng)
    if not len(train) or not len(test):
        raise UsageError(f"data set '{settings.name}' has too few images to split into training and test")
    parts = (train, trusted, test)
    tensors = [t for part in parts for t in (part.images, part.labels, part.sources) if t is not None]
    fingerprint = digest([classes, tensor_digest(*tensors)])
    return Dataset(settings.name, classes, train, trusted, test, fingerprint)


def _names(classes: tuple[str, ...]) -> tuple[str, ...]:
    """Return the classes' names as valid Unicode: a folder's name may hold any bytes. Raises `UsageError` for twins."""
    names = tuple(name.encode("utf-8", "backslashreplace").decode() for name in classes)
    twin = next((name for name in names if names.count(name) > 1), None)
    if twin is not None:
        raise UsageError(f"two classes have the name '{twin}'; give each its own")
    return names
