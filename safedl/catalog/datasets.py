"""The built-in data sets: what they hold and whether they have to be fetched."""

from __future__ import annotations

from dataclasses import dataclass

from safedl.errors import UsageError, nearest


@dataclass(frozen=True)
class DatasetSpec:
    """A built-in data set.

    `shape`: channels, height, width; `test_size` is 0 where the set has no test part of its own and is split by seed.
    """

    name: str
    title: str
    shape: tuple[int, int, int]
    num_classes: int
    train_size: int
    test_size: int
    summary: str
    needs_download: bool = True
    resizable: bool = False
    """Its files have various sizes, so that `model.input_shape` may ask for another height and width."""


_SPECS = (
    DatasetSpec(
        "digits", "Digits (scikit-learn)", (1, 8, 8), 10, 1_797, 0,
        "Small handwritten digits that come with scikit-learn.", needs_download=False,
    ),
    DatasetSpec("mnist", "MNIST", (1, 28, 28), 10, 60_000, 10_000, "Handwritten digits."),
    DatasetSpec("fashionmnist", "Fashion-MNIST", (1, 28, 28), 10, 60_000, 10_000, "Articles of clothing."),
    DatasetSpec("kmnist", "Kuzushiji-MNIST", (1, 28, 28), 10, 60_000, 10_000, "Cursive Japanese characters."),
    DatasetSpec("cifar10", "CIFAR-10", (3, 32, 32), 10, 50_000, 10_000, "Small photographs of animals and vehicles."),
    DatasetSpec("cifar100", "CIFAR-100", (3, 32, 32), 100, 50_000, 10_000, "Small photographs in a hundred classes."),
    DatasetSpec("svhn", "SVHN", (3, 32, 32), 10, 73_257, 26_032, "House numbers photographed from the street."),
    DatasetSpec(
        "emnist", "EMNIST balanced", (1, 28, 28), 47, 112_800, 18_800, "Handwritten letters and digits, balanced split."
    ),
    DatasetSpec(
        "gtsrb", "GTSRB", (3, 32, 32), 43, 26_640, 12_630, "German traffic signs, resized from their various sizes.",
        resizable=True,
    ),
)  # fmt: skip

DATASETS: dict[str, DatasetSpec] = {spec.name: spec for spec in _SPECS}


def dataset(name: str) -> DatasetSpec:
    """Return the built-in data set called `name`. Raises `UsageError` with the nearest name."""
    if name not in DATASETS:
        raise UsageError(
            f"dataset.name: unknown data set '{name}'.{nearest(name, DATASETS)} Known: {', '.join(DATASETS)}; "
            "your own data needs dataset.path or 'type: custom'"
        )
    return DATASETS[name]
