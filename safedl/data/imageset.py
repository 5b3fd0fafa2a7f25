"""Images and labels as tensors: what every method works on."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace

import torch
from torch import Tensor


@dataclass(frozen=True)
class ImageSet:
    """N labelled images.

    `images`: uint8 [N, C, H, W]; `labels`: int64 [N]; `sources`: int64 [N], who contributed each sample,
    or None where nobody knows.
    """

    images: Tensor
    labels: Tensor
    sources: Tensor | None = None

    def __post_init__(self) -> None:
        if self.images.dtype != torch.uint8 or self.images.ndim != 4:
            raise ValueError(f"images must be uint8 [N, C, H, W], not {self.images.dtype} {tuple(self.images.shape)}")
        if self.labels.dtype != torch.int64 or self.labels.shape != self.images.shape[:1]:
            raise ValueError(
                f"labels must be int64 [{len(self.images)}], not {self.labels.dtype} {tuple(self.labels.shape)}"
            )

    def __len__(self) -> int:
        return len(self.images)

    def select(self, index: Tensor) -> ImageSet:
        """Return the samples at `index` (positions int64 [M] or a mask bool [N]), as copies."""
        sources = None if self.sources is None else self.sources[index]
        return ImageSet(self.images[index], self.labels[index], sources)

    def with_labels(self, labels: Tensor) -> ImageSet:
        """Return the same images under other labels (int64 [N])."""
        return replace(self, labels=labels)


@dataclass(frozen=True)
class Raw:
    """A data set before it is split. `test` is None where the set has no test part of its own.

    `files`: the training images' paths from the data's folder, in their order, where each is a file of its own.
    """

    classes: tuple[str, ...]
    train: ImageSet
    test: ImageSet | None = None
    files: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Dataset:
    """A data set split for one seed. `trusted` is a clean holdout of the training images; `test` only measures."""

    name: str
    classes: tuple[str, ...]
    train: ImageSet
    trusted: ImageSet
    test: ImageSet
    fingerprint: str
    """sha256 over the content of all three parts and the classes' names: two equal fingerprints are the same data."""
    files: tuple[str, ...] | None = None
    """Paths of the training images from the data's folder, in order; None where they are not files of their own."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of an image."""
        channels, height, width = self.train.images.shape[1:]
        return channels, height, width


def tensor_digest(*tensors: Tensor) -> str:
    """Return the sha256 over the content, type and shape of tensors."""
    state = hashlib.sha256()
    for tensor in tensors:
        state.update(f"{tensor.dtype}{tuple(tensor.shape)}".encode())
        dense = tensor.detach().cpu() if tensor.layout == torch.strided else tensor.detach().cpu().to_dense()
        state.update(dense.contiguous().view(-1).view(torch.uint8).numpy().data)
    return state.hexdigest()
