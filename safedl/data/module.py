"""Data sets of the user's own: a module that defines `get_dataset()`.

It returns one of

- `(train, test)`, each a `torch.utils.data.Dataset` of (image, label) or a pair (images, labels);
- one such data set or pair alone, which is then split by seed;
- `(x_train, y_train, x_test, y_test)`;
- a dictionary with these four names, of which the last two may be missing, and perhaps `classes` (names)
  and `sources` (who contributed each training image).

Images are tensors or arrays as in `safedl.data.arrays.to_images`, or Pillow images.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import TensorDataset

from safedl.data.arrays import from_mapping, to_images, to_names
from safedl.data.decode import Gathered
from safedl.data.draws import seeded
from safedl.data.imageset import Raw
from safedl.data.parts import difference
from safedl.data.usercode import call, importing
from safedl.errors import UsageError, in_a_line
from safedl.progress import Cancelled, Progress

CHUNK = 512


def read_module(path: Path, shape: tuple[int, int, int] | None, progress: Progress) -> Raw:
    """Return what `get_dataset()` of the module at `path` gives. Raises `UsageError` naming the module.

    `shape` (C, H, W) is the size that Pillow images are resized to. What the module draws at random, to split its data
    or to augment it, is the same each time.
    """
    where = f"get_dataset() of {path}"
    with seeded(0):
        result = call(path, "get_dataset", {}, {}, progress)
        try:
            with importing(path):
                return _to_raw(result, where, shape, progress)
        except (UsageError, Cancelled):
            raise
        except Exception as error:  # the user's objects may fail in any way when they are looked at
            raise UsageError(f"{where} cannot be used: {in_a_line(error)}") from error


def _to_raw(result: Any, where: str, shape: tuple[int, int, int] | None, progress: Progress) -> Raw:
    if isinstance(result, Mapping):
        return from_mapping(result, where)
    if isinstance(result, tuple | list) and len(result) == 4:
        return from_mapping(dict(zip(("x_train", "y_train", "x_test", "y_test"), result, strict=True)), where)
    if not isinstance(result, tuple | list) or _is_pair(result):
        train, test = result, None
    elif len(result) == 2:
        train, test = result
    else:
        raise UsageError(f"{where} returned {len(result)} values; expected (train, test) or a dictionary")
    values = _part(train, "train", where, shape, progress)
    if test is not None:
        values |= _part(test, "test", where, shape, progress)
    names, others = _names(train, where), None
    with suppress(UsageError):  # those of the training part count
        others = _names(test, where)
    if names and others and (problem := difference(others, names)):
        raise UsageError(f"{where}: test: {problem}")
    return from_mapping(values | ({"classes": names} if names else {}), where)


def _names(data: Any, where: str) -> tuple[str, ...] | None:
    """Return the names of classes that a data set tells in its `classes`, as torchvision's do, or None."""
    values = getattr(data, "classes", None)
    return None if values is None else to_names(values, where) or None


def _is_pair(value: Any) -> bool:
    """Return whether a value is (images, labels), rather than (train, test)."""
    if not isinstance(value, tuple | list) or len(value) != 2:
        return False
    if all(isinstance(v, list) and v and isinstance(v[0], tuple) for v in value):  # two lists of (image, label)
        return False
    dimensions = [np.ndim(v) if isinstance(v, Tensor | np.ndarray | list) else None for v in value]
    return dimensions[0] in (3, 4) and dimensions[1] in (1, 2)


def _part(data: Any, part: str, where: str, shape: tuple[int, int, int] | None, progress: Progress) -> dict[str, Any]:
    """Return `x_<part>` and `y_<part>` of a data set or a pair."""
    images: Any
    labels: Any
    if isinstance(data, TensorDataset) and len(data.tensors) == 2:
        images, labels = data.tensors
    elif _is_pair(data):
        images, labels = data
    elif hasattr(data, "__getitem__") and hasattr(data, "__len__"):
        images, labels = _collect(data, f"{where}: {part}", shape, progress)
    else:
        raise UsageError(
            f"{where} returned {type(data).__name__} for {part}; expected a torch Dataset or (images, labels)"
        )
    return {f"x_{part}": images, f"y_{part}": labels}


def _collect(
    data: Any, where: str, shape: tuple[int, int, int] | None, progress: Progress
) -> tuple[Tensor, list[int] | list[str]]:
    """Return the images, uint8 [N, C, H, W], and labels of a data set that is read item by item."""
    pictures = Gathered(shape)
    chunk: list[Any] = []
    parts: list[Tensor] = []
    labels: list[Any] = []
    total = len(data)
    for number in range(total):
        image, label = _item(data, number, where)
        labels.append(label)
        if isinstance(image, Image.Image):
            if image.mode == "F":  # Pillow would cut its values off
                raise UsageError(f"{where}: item {number} holds floating-point values; make it an array in [0, 1]")
            pictures.add(image)
        else:
            chunk.append(image)
        if len(chunk) == CHUNK or (chunk and number + 1 == total):
            parts.append(to_images(_stack(chunk, where), where))
            chunk.clear()
        if number % 100 == 0 or number + 1 == total:
            progress.step("read images", number + 1, total)
    if pictures and parts:
        raise UsageError(f"{where}: some images are Pillow images, some are not")
    if pictures:
        parts.append(pictures.to_tensor(progress))
    if not parts:
        raise UsageError(f"{where}: no images")
    if len({p.shape[1:] for p in parts}) > 1:
        raise UsageError(f"{where}: images of different shapes")
    return torch.cat(parts), labels


def _item(data: Any, number: int, where: str) -> tuple[Any, Any]:
    try:
        image, label = data[number]
        if isinstance(label, str):
            return image, label
        if int(label) != label:  # int() would cut it off
            raise ValueError(f"{label} is no whole number")
        return image, int(label)
    except Exception as error:
        raise UsageError(f"{where}: item {number} is no (image, label): {type(error).__name__}: {error}") from error


def _stack(chunk: list[Any], where: str) -> Tensor | np.ndarray:
    try:
        if all(isinstance(image, Tensor) for image in chunk):
            return torch.stack(chunk)
        return np.stack([np.asarray(image) for image in chunk])
    except (ValueError, RuntimeError):
        raise UsageError(f"{where}: images of different shapes; resize them to one") from None
