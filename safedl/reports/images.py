"""PNG files of images: tiny ones enlarged, several beside each other. The same pixels give the same bytes."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

SIDE = 128
"""Images smaller than this are enlarged to at least this many pixels."""
GAP = 6
"""White pixels between two images."""


def grid(images: Sequence[NDArray[np.uint8]], columns: int | None = None) -> bytes:
    """Return a PNG of images uint8 [C, H, W] of one size, row by row; `columns` is all of them unless given.

    Each is enlarged by a whole number (nearest neighbour, so that single pixels stay visible) to at least `SIDE`.
    Three channels are colours; any other number is shown as the grey of their mean.
    """
    tiles = [_enlarge(_colours(image)) for image in images]
    height, width = tiles[0].shape[:2]
    columns = columns or len(tiles)
    rows = math.ceil(len(tiles) / columns)
    canvas = np.full((rows * (height + GAP) - GAP, columns * (width + GAP) - GAP, 3), 255, np.uint8)
    for i, tile in enumerate(tiles):
        top, left = i // columns * (height + GAP), i % columns * (width + GAP)
        canvas[top : top + height, left : left + width] = tile
    return encode_png(canvas)


def encode_png(pixels: NDArray[np.uint8]) -> bytes:
    """Return pixels uint8 [H, W, 3] as PNG, without date or other metadata."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def to_uint8(values: NDArray[Any]) -> NDArray[np.uint8]:
    """Return values in [0, 1] as bytes."""
    scaled: NDArray[np.uint8] = (np.clip(values, 0, 1) * 255).round().astype(np.uint8)
    return scaled


def overlay(image: NDArray[np.uint8], trigger: NDArray[Any], mask: NDArray[Any]) -> NDArray[np.uint8]:
    """Return `image` uint8 [C, H, W] with a trigger [C, H, W] of opacity `mask` [1, H, W] (both in [0, 1]) on it."""
    return to_uint8(image / 255 * (1 - mask) + trigger * mask)


def difference(original: NDArray[np.uint8], image: NDArray[np.uint8], factor: float) -> NDArray[np.uint8]:
    """Return image - original, uint8 [C, H, W], `factor` times and around a middle grey."""
    return to_uint8(0.5 + factor * (image.astype(np.float32) - original) / 255)


def _colours(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return [C, H, W] as [H, W, 3]."""
    if len(image) != 3:
        image = np.repeat(image.mean(0, keepdims=True).round().astype(np.uint8), 3, 0)
    return image.transpose(1, 2, 0)


def _enlarge(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    factor = math.ceil(SIDE / max(pixels.shape[:2]))
    return pixels.repeat(factor, 0).repeat(factor, 1)
