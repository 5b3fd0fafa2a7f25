"""Image classification data in Parquet, as Hugging Face's `datasets` keeps it: `data/train-00000-of-00001.parquet`."""

from __future__ import annotations

import importlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safedl.data.arrays import from_mapping
from safedl.data.decode import Encoded, read_images
from safedl.data.imageset import Raw
from safedl.data.parts import MEASURING, difference, file_part, folder_part
from safedl.errors import UsageError
from safedl.progress import Cancelled, Progress
from safedl.text import composed

IMAGE_COLUMNS = ("image", "img")
LABEL_COLUMNS = ("label", "labels", "fine_label")
"""Columns that hold images and labels, the first that is there."""
ROWS = 1000
"""Rows that are taken from a file at once."""


@dataclass
class _Part:
    """What the files of one part hold: encoded images, labels, and the classes' names where the files tell them."""

    images: list[Encoded] = field(default_factory=list)
    labels: list[int] | list[str] = field(default_factory=list)
    classes: tuple[str, ...] | None = None


def parquet_files(path: Path) -> list[Path]:
    """Return the Parquet files that `path` means, in order: itself, or those in the folder, its `data/`, its parts."""
    if path.is_file():
        return [path] if path.suffix == ".parquet" else []
    parts = (file for file in path.glob("*/*.parquet") if folder_part(file.parent.name))
    return sorted(path.glob("*.parquet")) or sorted((path / "data").glob("*.parquet")) or sorted(parts)


def tells_parts(path: Path) -> bool:
    """Return whether the names of a folder's Parquet files tell what they are for."""
    return any(_known_part(file, path) for file in parquet_files(path))


def read_parquet(path: Path, shape: tuple[int, int, int] | None, progress: Progress) -> Raw:
    """Return the images in a Parquet file, or in a folder's Parquet files.

    A word of a file's or its folder's name tells its part: `digits_test`, else `validation-00000`, measures, all others
    are for training.
    Column `image` holds encoded images, as bytes or as {bytes, path}; `label` their classes, as whole numbers or
    texts. For `shape` see `read_images`. Raises `UsageError` naming the file that cannot be used.
    """
    files = parquet_files(path)
    parts: dict[str, list[Path]] = {}
    for file in files:
        parts.setdefault(_known_part(file, path) or file.stem, []).append(file)
    measuring = next((name for name in MEASURING if name in parts), None) if len(parts) > 1 else None
    if unused := [name for name in parts if name in MEASURING and name != measuring and len(parts) > 1]:
        progress.log(f"the parts {', '.join(unused)} of {path} are passed over; test images are those of {measuring}")
    training = [file for name, found in parts.items() if len(parts) == 1 or name not in MEASURING for file in found]
    if not training:
        raise UsageError(f"{path}: no Parquet file with training images; name one train-00000-of-00001.parquet")
    train = _read(training, progress)
    test = _read(parts[measuring], progress) if measuring else _Part()
    train.classes = _same_names(train.classes, test.classes, f"{path}: {measuring}")
    images = read_images([*train.images, *test.images], shape, progress)
    count = len(train.images)
    values: dict[str, Any] = {"x_train": images[:count], "y_train": train.labels, "classes": train.classes}
    if test.images:
        values |= {"x_test": images[count:], "y_test": test.labels}
    return from_mapping(values, str(path))


def _known_part(file: Path, root: Path) -> str | None:
    """Return the part that a file's name tells, or else the folder it lies in, below the data set's own."""
    return file_part(file.stem) or (folder_part(file.parent.name) if file.parent not in (root, root.parent) else None)


def _read(files: Sequence[Path], progress: Progress) -> _Part:
    reader = _library()
    part = _Part()
    for file in files:
        try:
            with reader.ParquetFile(file) as table:
                _read_file(table, file, part, progress)
        except (UsageError, MemoryError, Cancelled):
            raise
        except Exception as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise UsageError(f"cannot read {file}: {reason}") from error
    return part


def _read_file(table: Any, file: Path, part: _Part, progress: Progress) -> None:
    schema = table.schema_arrow
    image, label = _column(schema, IMAGE_COLUMNS, file), _column(schema, LABEL_COLUMNS, file)
    part.classes = _same_names(part.classes, _class_names(schema.metadata, label), str(file))
    rows = table.metadata.num_rows
    start = len(part.labels)
    for batch in table.iter_batches(batch_size=ROWS, columns=[image, label]):
        for value, given in zip(batch.column(image).to_pylist(), batch.column(label).to_pylist(), strict=True):
            number = len(part.labels) - start
            data = value.get("bytes") if isinstance(value, dict) else value
            if not isinstance(data, bytes):
                raise UsageError(f"{file}: row {number}: column '{image}' holds no encoded image")
            if not isinstance(given, int | str):
                raise UsageError(f"{file}: row {number}: column '{label}' holds no class: {given!r}")
            part.images.append(Encoded(f"{file}: row {number}", data))
            part.labels.append(given)  # type: ignore[arg-type]
        progress.step("read rows", len(part.labels) - start, rows)


def _column(schema: Any, names: tuple[str, ...], file: Path) -> str:
    found = next((name for name in names if name in schema.names), None)
    if found is None:
        raise UsageError(f"{file}: no column {' or '.join(names)}; it has: {', '.join(schema.names) or 'none'}")
    return found


def _class_names(metadata: dict[bytes, bytes] | None, label: str) -> tuple[str, ...] | None:
    """Return the classes' names that `datasets` wrote beside the columns, or None."""
    try:
        features = json.loads((metadata or {})[b"huggingface"])["info"]["features"]
        return tuple(composed(str(name)) for name in features[label]["names"])
    except (KeyError, TypeError, ValueError):
        return None


def _same_names(known: tuple[str, ...] | None, found: tuple[str, ...] | None, where: str) -> tuple[str, ...] | None:
    """Return the classes' names, as far as they are known. Raises `UsageError` if files number them differently."""
    if known and found and (problem := difference(found, known)):
        raise UsageError(f"{where}: {problem}")
    return known or found


def _library() -> Any:
    try:
        return importlib.import_module("pyarrow.parquet")
    except ImportError:
        raise UsageError("reading Parquet needs pyarrow; install the extra: pip install 'safedl[parquet]'") from None
