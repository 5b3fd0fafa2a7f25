"""Training recipes that suit the built-in data sets, for profiles that bring none."""

from __future__ import annotations

from safedl.catalog.settings import DatasetSettings, TrainingSettings

_SMALL_GREY = TrainingSettings(epochs=5, batch_size=128, learning_rate=2e-3)

_RECIPES: dict[str, TrainingSettings] = {
    "digits": TrainingSettings(epochs=15, batch_size=64, learning_rate=2e-3),
    "mnist": _SMALL_GREY,
    "fashionmnist": _SMALL_GREY,
    "kmnist": _SMALL_GREY,
    "emnist": _SMALL_GREY,
    "svhn": TrainingSettings(epochs=10, batch_size=128, learning_rate=2e-3, augment="shift"),
    "gtsrb": TrainingSettings(epochs=30, batch_size=128, learning_rate=2e-3, augment="shift"),
    "cifar10": TrainingSettings(epochs=15, batch_size=128, learning_rate=2e-3, augment="shift_flip"),
    "cifar100": TrainingSettings(epochs=20, batch_size=128, learning_rate=2e-3, augment="shift_flip"),
}


def recipe_for(dataset: DatasetSettings | None) -> TrainingSettings:
    """Return the recipe for a data set: one of its own for those built in, the general defaults for any other."""
    if dataset is None or dataset.type == "custom" or dataset.path is not None:
        return TrainingSettings()
    return _RECIPES.get(dataset.name, TrainingSettings())
