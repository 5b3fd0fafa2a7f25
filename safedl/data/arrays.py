"""Arrays and tensors of images, as they come from `.npz` files and user modules."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from safedl.data.folder import in_order
from safedl.data.imageset import ImageSet, Raw
from safedl.errors import UsageError, in_a_line
from safedl.text import composed

CHANNELS = (1, 3)
_UNSIGNED = (torch.uint16, torch.uint32, torch.uint64)
"""Torch has neither minimum nor rounding for these."""
_ROUNDING = 1e-4
"""By how much resizing may carry floats beyond 0 or 1; far less than half a level of grey."""
_WHITE = "the largest value that there can be, as 255 or 65535"
_EXACT = 2**53
"""Below it a float64 holds every whole number."""
KEYS = {
    "x_train": ("x_train", "train_images"),
    "y_train": ("y_train", "train_labels"),
    "x_test": ("x_test", "test_images"),
    "y_test": ("y_test", "test_labels"),
    "classes": ("classes",),
    "sources": ("sources",),
}
"""What an `.npz` file or a dictionary may hold, under either name; `sources` tells who contributed each image."""


def read_npz(path: Path) -> Raw:
    """Return the images in an `.npz` file. Raises `UsageError` naming file and array; pickled objects are refused."""
    arrays: dict[str, Any] = {}
    name = ""
    try:
        with np.load(path, allow_pickle=False) as archive:
            names = archive.files
            for name in names:
                if any(name in known for known in KEYS.values()):
                    arrays[name] = archive[name]
    except Exception as error:  # noqa: BLE001 - a damaged file fails in many ways
        if not zipfile.is_zipfile(path):
            hint = "it is no .npz file, as numpy.savez writes it"
        elif "allow_pickle" in str(error):
            hint = f"{name} holds pickled objects, which are not loaded; save texts with astype(str)"
        else:
            hint = str(error) or type(error).__name__
        raise UsageError(f"cannot read {path}: {hint}") from None
    return from_mapping({**dict.fromkeys(names, ()), **arrays}, str(path))


def from_mapping(values: Mapping[str, Any], where: str) -> Raw:
    """Return the data set in `x_train`, `y_train` and, if there, `x_test`, `y_test`, `classes`, `sources`.

    Images: see `to_images`. Labels: whole numbers 0 to K - 1 with every class in the training part, or texts.
    `classes` is a list of names, or a mapping of names to indices. Texts may be bytes, which are taken for UTF-8.
    Raises `UsageError` that begins with `where`.
    """
    found = {ours: next((values[n] for n in names if values.get(n) is not None), None) for ours, names in KEYS.items()}
    for key in ("x_train", "y_train"):
        if found[key] is None:
            there = ", ".join(str(name) for name, value in values.items() if value is not None)
            raise UsageError(f"{where}: no {' or '.join(KEYS[key])}; it has: {there or 'nothing'}")
    if (found["x_test"] is None) != (found["y_test"] is None):
        raise UsageError(f"{where}: test images and test labels must come together")
    train_images = to_images(found["x_train"], f"{where}: x_train")
    given = None if found["classes"] is None else to_names(found["classes"], where)
    train_labels, names = to_labels(found["y_train"], given, f"{where}: y_train")
    sources = None if found["sources"] is None else _to_sources(found["sources"], len(train_images), where)
    train = _image_set(train_images, train_labels, f"{where}: x_train", sources)
    classes = _check_classes(train_labels, names, where)
    if found["x_test"] is None:
        return Raw(classes, train)
    test_images = to_images(found["x_test"], f"{where}: x_test")
    if test_images.shape[1:] != train_images.shape[1:]:
        raise UsageError(
            f"{where}: test images are {list(test_images.shape[1:])}, training images {list(train_images.shape[1:])}"
        )
    test_labels, _ = to_labels(found["y_test"], classes, f"{where}: y_test")
    if len(test_labels) and int(test_labels.max()) >= len(classes):
        raise UsageError(
            f"{where}: y_test has class {int(test_labels.max())}, the training labels end at {len(classes) - 1}"
        )
    return Raw(classes, train, _image_set(test_images, test_labels, f"{where}: x_test"))


def to_images(values: Any, where: str) -> Tensor:
    """Return images as uint8 [N, C, H, W], C 1 or 3.

    Taken are N x H x W, N x H x W x C and N x C x H x W (where both fit, arrays have their channels last, tensors
    first); whole numbers 0 to 255, or floats in [0, 1]. Raises `UsageError` that begins with `where`.
    """
    channels_last = not isinstance(values, Tensor)
    images = to_tensor(values, where)
    if images.ndim == 3:
        images = images.unsqueeze(1)
    elif images.ndim == 4:
        fits = {last: images.shape[3 if last else 1] in CHANNELS for last in (True, False)}
        if not any(fits.values()):
            raise UsageError(f"{where}: shape {list(images.shape)} has no axis of 1 or 3 channels")
        if channels_last if fits[channels_last] else not channels_last:
            images = images.permute(0, 3, 1, 2)
    else:
        raise UsageError(f"{where}: shape {list(images.shape)}; expected N x H x W or N x H x W x C")
    if images.numel() == 0:
        raise UsageError(f"{where}: no images in shape {list(images.shape)}")
    return _to_uint8(images, where).contiguous()


def _to_uint8(images: Tensor, where: str) -> Tensor:
    if images.dtype == torch.uint8:
        return images
    floats = images.is_floating_point()
    if images.dtype in _UNSIGNED:
        images = images.double()
    low, high = float(images.min()), float(images.max())
    if floats:
        if not (low >= -_ROUNDING and high <= 1 + _ROUNDING):
            if not math.isfinite(low + high):
                raise UsageError(f"{where}: some values are not finite; floats must lie in [0, 1]")
            hint = "leave normalisation out, it is part of the model" if low < 0 else f"divide them by {_WHITE}"
            raise UsageError(f"{where}: floats must lie in [0, 1], found {low:g} to {high:g}; {hint}")
        return images.mul(255).round().to(torch.uint8)
    if images.dtype == torch.bool:
        return images.to(torch.uint8) * 255
    if low < 0 or high > 255:
        hint = f"; make them floats, divided by {_WHITE}" if low >= 0 else ""
        raise UsageError(f"{where}: whole numbers must lie in 0 to 255, found {low:g} to {high:g}{hint}")
    return images.to(torch.uint8)


def to_tensor(values: Any, where: str) -> Tensor:
    """Return real numbers of any kind as a tensor on the CPU. Raises `UsageError` that begins with `where`."""
    try:
        tensor = values if isinstance(values, Tensor) else torch.from_numpy(_native(np.ascontiguousarray(values)))
        numbers = tensor.detach().cpu()
    except (TypeError, ValueError, RuntimeError) as error:  # of the last kind is what meta tensors raise
        raise UsageError(f"{where}: cannot be used as numbers: {in_a_line(error)}") from None
    if numbers.is_complex():
        raise UsageError(f"{where}: complex numbers cannot be used; give real ones, their .real or abs()")
    if numbers.layout != torch.strided:
        raise UsageError(f"{where}: a sparse tensor cannot be used; give its .to_dense()")
    return numbers


def to_labels(values: Any, names: tuple[str, ...] | None, where: str) -> tuple[Tensor, tuple[str, ...] | None]:
    """Return labels int64 [N] and the classes' names: those given, for texts else these in a folder's order, else None.

    Raises `UsageError` that begins with `where`.
    """
    try:
        flat = values if isinstance(values, Tensor) else np.asarray(values)
    except (TypeError, ValueError, RuntimeError) as error:
        raise UsageError(f"{where}: labels must be one number for each image: {in_a_line(error)}") from None
    if flat.ndim == 2 and flat.shape[1] == 1:
        flat = flat.reshape(-1)
    if flat.ndim != 1:
        hint = "; of one-hot rows take argmax(1)" if flat.ndim == 2 else ""
        raise UsageError(f"{where}: labels must be one number for each image, not of shape {list(flat.shape)}{hint}")
    if isinstance(flat, np.ndarray) and _are_texts(flat):
        texts, index = np.unique(_decoded(flat), return_inverse=True)
        spelled = [composed(text) for text in texts.tolist()]
        names = names or tuple(in_order(set(spelled)))
        numbers = {name: number for number, name in reversed(list(enumerate(names)))}
        unknown = next((text for text in spelled if text not in numbers), None)
        if unknown is not None:
            raise UsageError(f"{where}: unknown class '{unknown}'; known: {', '.join(names)}")
        return torch.tensor([numbers[text] for text in spelled])[torch.from_numpy(index)], names
    found = to_tensor(flat, where)
    if found.is_floating_point() or found.dtype in _UNSIGNED:
        exact = found.double()
        odd = exact[(exact != exact.round()) | ~(exact.abs() < _EXACT)]
        if len(odd):
            raise UsageError(f"{where}: labels must be whole numbers 0 to K - 1, found {float(odd[0]):g}")
    labels = found.long()
    if len(labels) and int(labels.min()) < 0:
        raise UsageError(f"{where}: labels must be 0 or more, found {int(labels.min())}")
    return labels, names


def to_names(values: Any, where: str) -> tuple[str, ...]:
    """Return the classes' names as texts, composed; a mapping gives each its index, as torchvision's `class_to_idx`.

    Raises `UsageError` that begins with `where`.
    """
    if isinstance(values, Mapping):
        indices = list(values.values())
        if not all(isinstance(i, int | np.integer) for i in indices) or sorted(indices) != list(range(len(indices))):
            raise UsageError(f"{where}: classes as a mapping must give each name its own index, 0 to K - 1")
        values = sorted(values, key=lambda name: values[name])
    try:
        names = list(values.tolist() if isinstance(values, Tensor) else values)
    except TypeError:  # nothing that can be gone through, or an array without a dimension
        names = [[]]
    unordered = isinstance(values, str | bytes | set | frozenset)
    if unordered or any(isinstance(name, list | tuple | np.ndarray | Tensor) for name in names):
        raise UsageError(f"{where}: classes must be a list of names, one for each class")
    texts = (name.decode("utf-8", "backslashreplace") if isinstance(name, bytes) else str(name) for name in names)
    return tuple(composed(text) for text in texts)


def _are_texts(values: np.ndarray) -> bool:
    """Return whether an array holds texts: of fixed length, of NumPy's own kind, or as objects, which pandas gives."""
    return values.dtype.kind in "UST" or (
        values.dtype.kind == "O" and len(values) > 0 and all(isinstance(value, str) for value in values)
    )


def _decoded(texts: np.ndarray) -> np.ndarray:
    if texts.dtype.kind == "S":
        return np.char.decode(texts, "utf-8", "backslashreplace")
    return texts if texts.dtype.kind == "U" else np.array(texts.tolist(), dtype=np.str_)


def _native(values: np.ndarray) -> np.ndarray:
    """Return numbers in this machine's order of bytes: files come from others."""
    return values if values.dtype.isnative else values.astype(values.dtype.newbyteorder("="))


def _check_classes(labels: Tensor, names: tuple[str, ...] | None, where: str) -> tuple[str, ...]:
    """Return the classes' names (numbers, if they have none); each class must have a training image."""
    present: list[int] = labels.unique().tolist()
    if len(present) < 2:
        told = f"all training labels are {present[0]}" if present else "there are no training labels"
        raise UsageError(f"{where}: {told}; a classifier needs two classes or more")
    names = names or tuple(str(c) for c in range(len(present)))
    if present != list(range(len(names))):
        if present == list(range(1, len(names) + 1)):
            raise UsageError(f"{where}: training labels are 1 to {len(names)}; number the classes from 0 on")
        missing = next((c for c in range(len(names)) if c not in set(present)), None)
        problem = f"class {missing} has no image" if missing is not None else f"class {present[-1]} has no name"
        raise UsageError(f"{where}: training labels must be 0 to {len(names) - 1}, each at least once; {problem}")
    return names


def _to_sources(values: Any, count: int, where: str) -> Tensor:
    """Return ids int64 [N] of who contributed each image; names are numbered in sorted order."""
    flat = np.asarray(values).reshape(-1)
    if len(flat) != count:
        raise UsageError(f"{where}: sources: {len(flat)} for {count} training images")
    return torch.from_numpy(np.unique(flat, return_inverse=True)[1]).long()


def _image_set(images: Tensor, labels: Tensor, where: str, sources: Tensor | None = None) -> ImageSet:
    if len(images) != len(labels):
        raise UsageError(f"{where}: {len(images)} images, but {len(labels)} labels")
    return ImageSet(images, labels, sources)
