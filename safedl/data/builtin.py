"""The built-in data sets: digits from scikit-learn, the others from torchvision's files."""

from __future__ import annotations

import os
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from filelock import FileLock
from platformdirs import user_cache_path
from torch import Tensor

from safedl.cache import acquire
from safedl.catalog.settings import DatasetSettings
from safedl.data import gtsrb
from safedl.data.download import fetch
from safedl.data.imageset import ImageSet, Raw
from safedl.errors import UsageError
from safedl.lookup import expanded
from safedl.progress import Progress

if TYPE_CHECKING:
    from safedl.data.torchvision_sets import Source


def read_builtin(
    settings: DatasetSettings, folders: Sequence[Path], shape: tuple[int, int, int] | None, progress: Progress
) -> Raw:
    """Return a built-in data set, fetched first where it is absent and `download` is true.

    Raises `UsageError` that says where it was looked for and how to get it.
    """
    name = settings.name
    if name == "digits":
        return _digits()
    root = data_folder(settings.root, folders)
    try:
        return _read(name, root, shape, progress)
    except (FileNotFoundError, NotADirectoryError):
        pass
    if not settings.download:
        raise UsageError(
            f"data set '{name}' is not in {root}; set dataset.download: true to fetch it, "
            "or dataset.root or SAFEDL_DATA to the folder that holds it"
        )
    _download(name, root, progress)
    try:
        return _read(name, root, shape, progress)
    except FileNotFoundError as error:
        raise UsageError(f"data set '{name}' in {root} is incomplete after its download: {error}") from None


def data_folder(root: str | None, folders: Sequence[Path]) -> Path:
    """Return where built-in data sets lie: `root` (below one of `folders`), else SAFEDL_DATA, else a cache folder."""
    if root:
        candidates = [folder / expanded(root) for folder in folders or [Path()]]
        return next((c for c in candidates if c.is_dir()), candidates[-1]).absolute()
    if os.environ.get("SAFEDL_DATA"):
        return expanded(os.environ["SAFEDL_DATA"]).absolute()
    return user_cache_path("safedl", appauthor=False) / "data"


def _digits() -> Raw:
    """Return scikit-learn's 1,797 digits, 8x8 grey, scaled from 0..16 to 0..255.

    Read from its file as `sklearn.datasets.load_digits` does: to import that takes longer than a finished plan.
    """
    found = find_spec("sklearn")
    assert found is not None and found.submodule_search_locations
    table = np.loadtxt(Path(found.submodule_search_locations[0], "datasets", "data", "digits.csv.gz"), delimiter=",")
    pixels, labels = torch.from_numpy(table[:, :-1]), torch.from_numpy(table[:, -1]).long()
    images = pixels.mul(255 / 16).round().to(torch.uint8).view(-1, 1, 8, 8)
    return Raw(tuple("0123456789"), ImageSet(images, labels), None)


def _read(name: str, root: Path, shape: tuple[int, int, int] | None, progress: Progress) -> Raw:
    """Return the set as it lies below `root`. Raises `FileNotFoundError` if it is not there."""
    if name == "gtsrb":
        return gtsrb.read_gtsrb(root, shape, progress)
    source = _source(name)
    progress.step(f"read {name}", 0, 2)
    train = _open(source, name, root, True)
    progress.step(f"read {name}", 1, 2)
    test = _open(source, name, root, False)
    progress.step(f"read {name}", 2, 2)
    return Raw(source.classes or tuple(train.classes), _image_set(name, train), _image_set(name, test))


def _source(name: str) -> Source:
    from safedl.data.torchvision_sets import SOURCES  # torchvision takes seconds to load, and digits do without

    return SOURCES[name]


def _open(source: Source, name: str, root: Path, train: bool) -> Any:
    try:
        return source.open(root, train, False)
    except RuntimeError as error:
        if "not found" in str(error):
            raise FileNotFoundError(str(error)) from None
        raise UsageError(f"data set '{name}' in {root} cannot be read: {error}") from None
    except (OSError, ValueError, AssertionError, EOFError) as error:
        raise UsageError(
            f"data set '{name}' in {root} is damaged; delete it to have it fetched again ({error})"
        ) from None


def _image_set(name: str, part: Any) -> ImageSet:
    """Return a part of a torchvision set, read as a whole."""
    if name == "svhn":
        return ImageSet(torch.from_numpy(part.data), torch.from_numpy(part.labels).long())
    labels = torch.as_tensor(part.targets).long()
    if isinstance(part.data, Tensor):
        # EMNIST's files hold its images transposed.
        images = part.data.transpose(1, 2) if name == "emnist" else part.data
        return ImageSet(images.unsqueeze(1).contiguous(), labels)
    return ImageSet(torch.from_numpy(part.data).permute(0, 3, 1, 2).contiguous(), labels)


def _download(name: str, root: Path, progress: Progress) -> None:
    """Fetch and unpack a set; one process or thread at a time."""
    progress.log(f"data set '{name}' is not in {root}: fetching it")
    try:
        root.mkdir(parents=True, exist_ok=True)
        lock = FileLock(root / f".{name}.lock", thread_local=False)
        acquire(lock, lambda: progress.step("wait for another download", 0, 1))
    except OSError as error:
        raise UsageError(f"cannot write to {root}: {error}; set dataset.root or SAFEDL_DATA") from None
    source = _source(name)
    try:
        fetch(source.archives, root, progress)
        progress.log(f"unpacking {name}")
        for train in (True, False):
            source.open(root, train, True)
    except (OSError, RuntimeError) as error:
        raise UsageError(f"cannot unpack data set '{name}' in {root}: {error}") from None
    finally:
        lock.release()
