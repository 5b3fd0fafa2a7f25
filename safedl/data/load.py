"""From settings to a data set, split for a seed."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from safedl.cache import digest
from safedl.catalog.settings import DatasetSettings
from safedl.data import sources
from safedl.data.imageset import Dataset, ImageSet, Raw, tensor_digest
from safedl.data.split import by_class, trusted_counts
from safedl.errors import UsageError
from safedl.lookup import require
from safedl.progress import SILENT, Progress
from safedl.text import composed

if TYPE_CHECKING:
    from numpy.typing import NDArray

TEST_FRACTION = 0.28
"""Share of the images that measure, where a set brings no test part of its own (500 of the 1,797 digits)."""

DARK = 16
"""Levels of 255 that 12-bit values become in files of 16 bits: hardly more than black."""


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
    return split(read(settings, folders, progress, shape), settings, seed, progress)


def read(
    settings: DatasetSettings,
    folders: Sequence[Path] = (),
    progress: Progress = SILENT,
    shape: tuple[int, int, int] | None = None,
) -> Raw:
    """Return the images that `settings` names as they came, to be split by any number of seeds; see `load`."""
    raw = sources.read(settings, folders, shape, progress)
    _tell_what_is_hard_to_see(raw.train.images, progress)
    return raw


def split(raw: Raw, settings: DatasetSettings, seed: int, progress: Progress = SILENT) -> Dataset:
    """Return images that were read as a data set, split by `seed`. Raises `UsageError` if they are too few."""
    classes = _names(raw.classes)
    rng = torch.Generator().manual_seed(seed)
    train, test, place = raw.train, raw.test, torch.arange(len(raw.train))  # `place`: of each image in `raw.train`
    if test is None:
        sizes = torch.bincount(train.labels).tolist()
        taken = by_class(train.labels, {c: round(TEST_FRACTION * n) for c, n in enumerate(sizes)}, rng)
        train, test, place = train.select(~taken), train.select(taken), place[~taken]
    if settings.subset:
        chosen = by_class(train.labels, dict.fromkeys(range(int(train.labels.max()) + 1), settings.subset), rng)
        train, place = train.select(chosen), place[chosen]
    taken = by_class(train.labels, trusted_counts(train.labels, settings.trusted_fraction), rng)
    train, trusted, place = train.select(~taken), train.select(taken), place[~taken]
    if not len(train) or not len(test):
        raise UsageError(f"data set '{settings.name}' has too few images to split into training and test")
    for name, part in (("test", test), ("trusted", trusted)):
        if copies := int(_copies(part, train).sum()):
            progress.log(f"{copies} of {len(part)} {name} images are in the training set too: figures may flatter")
    files = tuple(raw.files[index] for index in place.tolist()) if raw.files else None
    return Dataset(settings.name, classes, train, trusted, test, _fingerprint(classes, train, trusted, test), files)


def load_suspects(
    settings: DatasetSettings,
    trusted: str | None,
    folders: Sequence[Path] = (),
    progress: Progress = SILENT,
    shape: tuple[int, int, int] | None = None,
) -> Dataset:
    """Return the data set that `settings` names as it came: every training image, in its order, is a suspect.

    `trusted` is a folder or file with images known to be clean, of the same classes; without, nothing is held out. What
    is among the suspects too cannot vouch for them, and is left out. `test` is empty where the set has no test part.
    Raises `UsageError` for anything that cannot be read, and if nothing trusted is left.
    """
    if settings.subset:
        progress.log("dataset.subset is passed over: a scan examines every image")
    raw = read(settings, folders, progress, shape)
    classes, nothing = _names(raw.classes), raw.train.select(torch.zeros(len(raw.train), dtype=torch.bool))
    known = nothing
    if trusted:
        like = (raw.train.images.shape[1], raw.train.images.shape[2], raw.train.images.shape[3])
        place = require(trusted, folders, "scan.trusted")
        known = _trusted(DatasetSettings(name="trusted", path=str(place)), classes, like, progress)
        known = _unsuspected(known, raw.train, trusted, progress)
    test = raw.test or nothing
    fingerprint = _fingerprint(classes, raw.train, known, test)
    return Dataset(settings.name, classes, raw.train, known, test, fingerprint, raw.files)


def _trusted(
    settings: DatasetSettings, classes: tuple[str, ...], shape: tuple[int, int, int], progress: Progress
) -> ImageSet:
    """Return all images of a trusted set, its classes numbered as those of the suspects."""
    raw = sources.read(settings, (), shape, progress)
    names = _names(raw.classes)
    unknown = [name for name in names if name not in classes]
    if unknown:
        raise UsageError(f"{settings.path}: class '{unknown[0]}' is none of the data's: {', '.join(classes)}")
    parts = [raw.train, raw.test] if raw.test is not None else [raw.train]
    images, labels = torch.cat([p.images for p in parts]), torch.cat([p.labels for p in parts])
    images = _coloured_as(images, shape[0])
    if images.shape[1:] != shape:
        raise UsageError(f"{settings.path}: trusted images are {list(images.shape[1:])}, the data's {list(shape)}")
    return ImageSet(images, torch.tensor([classes.index(name) for name in names])[labels])


def _coloured_as(images: Tensor, channels: int) -> Tensor:
    """Return grey images as such, whether they are stored with one channel or three equal ones; others as they are."""
    if images.shape[1] == 1 and channels == 3:
        return images.expand(-1, 3, -1, -1).contiguous()
    grey = images[:, :1]
    return grey.contiguous() if channels == 1 and images.shape[1] == 3 and bool((images == grey).all()) else images


def _unsuspected(known: ImageSet, suspects: ImageSet, where: str, progress: Progress) -> ImageSet:
    """Return the trusted images without those that are the very image of a suspect."""
    apart = ~_copies(known, suspects)
    if apart.all():
        return known
    if not apart.any():
        raise UsageError(f"{where}: all trusted images are among the suspects; take other ones from the same source")
    progress.log(f"{int((~apart).sum())} of {len(known)} trusted images are among the suspects, and are left out")
    return known.select(apart)


def _tell_what_is_hard_to_see(images: Tensor, progress: Progress) -> None:
    """Say so if most images are blank, or nearly black: a model learns little from them, or what nobody sees."""
    flat = images.flatten(1)
    blank = int((flat.amax(1) == flat.amin(1)).sum())
    if blank > len(images) / 2:
        progress.log(
            f"{blank} of {len(images)} images are of one colour throughout; what transparency alone draws is lost, and "
            "16-bit values below 256 are black: save such images as 8-bit, on a background"
        )
    elif (top := int(flat.max())) < DARK:
        progress.log(
            f"no image has a value above {top} of 255: all are nearly black; give 0 and 1 as booleans or floats, and "
            "spread 12-bit values over the whole range: the lower 8 of 16 bits are cut off"
        )


def _copies(images: ImageSet, others: ImageSet) -> Tensor:
    """Return which images, bool [N], are pixel by pixel among others."""
    known = {_pixels(image) for image in others.images.numpy()}
    return torch.tensor([_pixels(image) in known for image in images.images.numpy()], dtype=torch.bool)


def _pixels(image: NDArray[Any]) -> bytes:
    return hashlib.blake2b(image.tobytes(), digest_size=16).digest()


def _fingerprint(classes: tuple[str, ...], *parts: ImageSet) -> str:
    tensors = [t for part in parts for t in (part.images, part.labels, part.sources) if t is not None]
    return digest([classes, tensor_digest(*tensors)])


def _names(classes: tuple[str, ...]) -> tuple[str, ...]:
    """Return the classes' names as valid Unicode, composed: a folder's name may hold any bytes.

    Raises `UsageError` for twins.
    """
    names = tuple(composed(name.encode("utf-8", "backslashreplace").decode()) for name in classes)
    twin = next((name for name, count in Counter(names).items() if count > 1), None)
    if twin is not None:
        raise UsageError(f"two classes have the name '{twin}'; give each its own")
    return names
