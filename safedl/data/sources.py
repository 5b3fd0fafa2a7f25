"""Which source a data set comes from."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from safedl.catalog import datasets as catalog
from safedl.catalog.settings import DatasetSettings
from safedl.data.arrays import read_npz
from safedl.data.builtin import read_builtin
from safedl.data.folder import holds_images, read_folder
from safedl.data.imageset import Raw
from safedl.data.module import read_module
from safedl.data.parquet import parquet_files, read_parquet, tells_parts
from safedl.data.parts import folder_part
from safedl.errors import UsageError
from safedl.lookup import require
from safedl.progress import Progress


def read(
    settings: DatasetSettings, folders: Sequence[Path], shape: tuple[int, int, int] | None, progress: Progress
) -> Raw:
    """Return the images that `settings` name: `path`, else the module of a custom set, else a built-in set.

    `shape` (C, H, W): the height and width to which image files are resized.
    Raises `UsageError` if they cannot be read.
    """
    if settings.path:
        path = require(settings.path, folders, "dataset.path")
    elif settings.type == "custom":
        path = require(settings.name, folders, "dataset.name")
    else:
        catalog.dataset(settings.name)
        return read_builtin(settings, folders, shape, progress)
    if parquet_files(path) and not _is_table_of_images(path):
        return read_parquet(path, shape, progress)
    if path.is_dir():
        if not holds_images(path) and (below := {file.parent for file in path.rglob("*.parquet") if _seen(file, path)}):
            sets = {folder.parent if folder_part(folder.name) else folder for folder in below}
            named = ", ".join(str(folder.relative_to(path)) for folder in sorted(sets))
            raise UsageError(f"{path} holds Parquet files further down, in {named}; name that folder, or one of them")
        return read_folder(path, shape, progress)
    if path.suffix.lower() == ".npz":
        return read_npz(path)
    if path.suffix == ".py":
        return read_module(path, shape, progress)
    raise UsageError(f"{path} is neither an image folder nor an .npz or .parquet file nor a module (.py)")


def _seen(file: Path, root: Path) -> bool:
    """Return whether neither a file nor a folder on its way from `root` is hidden: those are passed over."""
    return not any(name.startswith(".") for name in file.relative_to(root).parts)


def _is_table_of_images(path: Path) -> bool:
    """Return whether a folder's Parquet files are notes about the images of its class folders."""
    return path.is_dir() and not tells_parts(path) and sum(p.is_dir() and holds_images(p) for p in path.iterdir()) > 1
