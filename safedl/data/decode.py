"""Image files to tensors: any mode and size that Pillow reads."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from safedl.errors import UsageError
from safedl.progress import Progress

MAX_PIXELS = 50_000_000
"""Larger images are refused: a few bytes on disk may unpack to gigabytes."""
MAX_SIDE = 256
"""Images of one size are kept as they are up to this side, in pixels."""
DEFAULT_SIDE = 32
"""Others are resized to squares of this side, unless the profile asks for a size."""
MOST_TOLD = 5
"""So many files that cannot be read are named."""

_UNREADABLE = "cannot read image "
_DEEP_GREY = {"I", "I;16", "I;16L", "I;16B", "I;16N"}
_GREY = {"1", "L", "LA", "La", *_DEEP_GREY}

warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)  # refused below, with the file's name


@dataclass(frozen=True)
class Encoded:
    """The content of an image file that lies inside another file, and what to call it in messages."""

    name: str
    data: bytes

    def __str__(self) -> str:
        return self.name


def read_images(
    files: Sequence[Path | Encoded], shape: tuple[int, int, int] | None, progress: Progress, resize: bool = False
) -> Tensor:
    """Return the images in `files` as uint8 [N, C, H, W]: grey (C = 1) if all of them are, else RGB (C = 3).

    Height and width are those of `shape` (C, H, W) if given, else the images' own where they agree and are at most
    256 pixels, else 32x32; `resize` asks for 32x32 at once. Raises `UsageError` naming the files that cannot be read.
    """
    sizes, grey = set(), True
    refused: list[UsageError] = []
    for number, file in enumerate(files, start=1):
        try:
            size, mode = _look(file)
        except UsageError as error:  # the others are looked at too: all are mended at once
            refused.append(error)
            continue
        sizes.add(size)
        grey = grey and mode in _GREY
        if number % 200 == 0:
            progress.step("look at images", number, len(files))
    _refuse(refused, len(files))
    width, height = target_size(sizes, shape, progress, resize)
    images = _room(len(files), 1 if grey else 3, height, width)
    for number, file in enumerate(files, start=1):
        try:
            images[number - 1] = _decode(file, grey, (width, height))
        except UsageError as error:
            refused.append(error)
        if number % 50 == 0 or number == len(files):
            progress.step("read images", number, len(files))
    _refuse(refused, len(files))
    return images


def _refuse(refused: Sequence[UsageError], count: int) -> None:
    """Raise what is wrong with one file, or with several of `count`."""
    if len(refused) == 1:
        raise refused[0]
    if refused:
        told = [str(error).removeprefix(_UNREADABLE) for error in refused[:MOST_TOLD]]
        told += [f"and {len(refused) - MOST_TOLD:,} more"] if len(refused) > MOST_TOLD else []
        raise UsageError(f"{len(refused):,} of {count:,} images cannot be read: {'; '.join(told)}")


def _room(*shape: int) -> Tensor:
    try:
        return torch.empty(shape, dtype=torch.uint8)
    except RuntimeError:  # torch's way to say that there is not that much memory
        count, _, height, width = shape
        raise UsageError(
            f"{count:,} images of {width}x{height} pixels take {math.prod(shape) / 1e9:,.1f} GB, more than there "
            "is memory for; choose a smaller model.input_shape"
        ) from None


def target_size(
    sizes: set[tuple[int, int]], shape: tuple[int, int, int] | None, progress: Progress, resize: bool = False
) -> tuple[int, int]:
    """Return the width and height that images of these sizes are read at: see `read_images`."""
    size, chosen = _size(sizes, shape, resize)
    if not chosen:
        found = f"{len(sizes)} sizes" if len(sizes) > 1 else "{}x{} pixels".format(*next(iter(sizes)))
        progress.log(
            f"images of {found} are resized to {DEFAULT_SIDE}x{DEFAULT_SIDE}; model.input_shape chooses another"
        )
    return size


def _size(
    sizes: set[tuple[int, int]], shape: tuple[int, int, int] | None, resize: bool = False
) -> tuple[tuple[int, int], bool]:
    """Return the size to read images at, and whether it is asked for or the images' own."""
    if shape is not None:
        return (shape[2], shape[1]), True
    if not resize and len(sizes) == 1 and max(next(iter(sizes))) <= MAX_SIDE:
        return next(iter(sizes)), True
    return (DEFAULT_SIDE, DEFAULT_SIDE), False


class Gathered:
    """Images that come one by one, of sizes that are known at the end: kept no larger than they may be needed."""

    def __init__(self, shape: tuple[int, int, int] | None) -> None:
        self._shape = shape
        self._sizes: set[tuple[int, int]] = set()
        self._kept: list[Image.Image] = []
        self._grey = True

    def __len__(self) -> int:
        return len(self._kept)

    def add(self, image: Image.Image) -> None:
        """Take an image, which is read to its end: of one that was opened from a file, nothing stays open."""
        known = len(self._sizes)
        self._sizes.add(image.size)
        size, _ = _size(self._sizes, self._shape)
        if known == 1 and len(self._sizes) == 2:  # until now, all had the same size and were kept at it
            self._kept = [to_plain(kept, is_grey(kept), size) for kept in self._kept]
        self._grey = self._grey and is_grey(image)
        self._kept.append(to_plain(image, is_grey(image), size))

    def to_tensor(self, progress: Progress) -> Tensor:
        """Return all images as uint8 [N, C, H, W], of size and channels as in `read_images`."""
        size = target_size(self._sizes, self._shape, progress)
        return torch.stack([to_pixels(image, self._grey, size) for image in self._kept])


def to_pixels(image: Image.Image, grey: bool, size: tuple[int, int]) -> Tensor:
    """Return an image as uint8 [C, H, W], resized to `size` (width, height) if it has another."""
    image = to_plain(image, grey, size)
    return torch.from_numpy(np.array(image)).reshape(size[1], size[0], -1).permute(2, 0, 1)


def to_plain(image: Image.Image, grey: bool, size: tuple[int, int]) -> Image.Image:
    """Return an image with one or three channels of 8 bits, in memory alone, resized to `size` if it has another."""
    if image.mode in _DEEP_GREY:
        # Pillow's own conversion cuts 16-bit values off at 255. Only 32 bits may hold 8-bit values: files of 16 say so.
        values = np.asarray(image).clip(0, 65_535)
        deep = image.mode != "I" or values.max(initial=0) > 255
        image = Image.fromarray((values >> 8 if deep else values).astype(np.uint8))
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")
    image = image.convert("L" if grey else "RGB")
    if image.size != size:
        image = image.resize(size, Image.Resampling.BILINEAR)
    return image


def is_grey(image: Image.Image) -> bool:
    """Return whether an image has one channel."""
    return image.mode in _GREY


def _look(file: Path | Encoded) -> tuple[tuple[int, int], str]:
    """Return size (width, height) and mode from the file's header."""
    image = _open(file)
    with image:
        width, height = image.size
        if width * height > MAX_PIXELS:
            raise UsageError(f"{file} has {width}x{height} pixels; at most {MAX_PIXELS:,} are read")
        if image.mode == "F":
            raise UsageError(f"{file} holds floating-point values; save it as 8-bit")
        return image.size, image.mode


def _open(file: Path | Encoded) -> Image.Image:
    try:
        return Image.open(BytesIO(file.data) if isinstance(file, Encoded) else file)
    except Exception as error:  # noqa: BLE001 - decoders raise anything
        raise _unreadable(file, error) from None


def _decode(file: Path | Encoded, grey: bool, size: tuple[int, int]) -> Tensor:
    try:
        with _open(file) as image:
            image.draft(None, size)  # JPEG: decode at half, a quarter or an eighth where that is enough
            return to_pixels(image, grey, size)
    except UsageError:
        raise
    except Exception as error:  # noqa: BLE001 - decoders raise anything
        raise _unreadable(file, error) from None


def _unreadable(file: Path | Encoded, error: Any) -> UsageError:
    if isinstance(error, Image.DecompressionBombError):
        return UsageError(f"{file} has too many pixels; at most {MAX_PIXELS:,} are read")
    reason = "not an image" if isinstance(error, UnidentifiedImageError) else str(error) or type(error).__name__
    return UsageError(f"{_UNREADABLE}{file}: {reason}")
