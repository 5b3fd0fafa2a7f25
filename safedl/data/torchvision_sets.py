"""How torchvision opens the built-in data sets, and what to fetch for each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torchvision import datasets

from safedl.data import gtsrb
from safedl.data.download import Archive

DIGITS = tuple(str(c) for c in range(10))


@dataclass(frozen=True)
class Source:
    """A set of torchvision: how to open its training or test part, and what to fetch."""

    open: Callable[[Path, bool, bool], Any]
    archives: tuple[Archive, ...]
    classes: tuple[str, ...] = ()


def idx(kind: type[datasets.MNIST], classes: tuple[str, ...] = ()) -> Source:
    """Return the source of a set in MNIST's file format."""
    archives = tuple(
        Archive(tuple(f"{mirror}{file}" for mirror in kind.mirrors), f"{kind.__name__}/raw/{file}", md5)
        for file, md5 in kind.resources
    )
    return Source(lambda root, train, download: kind(root, train=train, download=download), archives, classes)


def cifar(kind: type[datasets.CIFAR10]) -> Source:
    """Return the source of a set in CIFAR's file format."""
    archive = Archive((kind.url,), kind.filename, kind.tgz_md5)
    return Source(lambda root, train, download: kind(root, train=train, download=download), (archive,))


def _part(train: bool) -> str:
    return "train" if train else "test"


SOURCES = {
    "mnist": idx(datasets.MNIST, DIGITS),
    "fashionmnist": idx(datasets.FashionMNIST),
    "kmnist": idx(datasets.KMNIST),
    "cifar10": cifar(datasets.CIFAR10),
    "cifar100": cifar(datasets.CIFAR100),
    "svhn": Source(
        lambda root, train, download: datasets.SVHN(root, split=_part(train), download=download),
        tuple(Archive((url,), file, md5) for url, file, md5 in map(datasets.SVHN.split_list.get, ("train", "test"))),
        DIGITS,
    ),
    "emnist": Source(
        lambda root, train, download: datasets.EMNIST(root, split="balanced", train=train, download=download),
        (Archive((datasets.EMNIST.url,), "EMNIST/raw/gzip.zip", datasets.EMNIST.md5),),
    ),
    "gtsrb": Source(
        lambda root, train, download: datasets.GTSRB(root, split=_part(train), download=download), gtsrb.ARCHIVES
    ),
}
