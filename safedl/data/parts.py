"""What the parts of a data set are called: folders and files of training images, and of those that measure."""

from __future__ import annotations

import re

TRAINING = "train"
MEASURING = ("test", "validation")
"""Parts that measure, the first that is there."""
_NAMES = {
    "train": TRAINING, "training": TRAINING, "test": "test", "testing": "test",
    "validation": "validation", "valid": "validation", "val": "validation", "dev": "validation",
}  # fmt: skip


def folder_part(name: str) -> str | None:
    """Return the part that a folder called `name` holds, in any case of letters, or None."""
    return _NAMES.get(name.lower())


def file_part(stem: str) -> str | None:
    """Return the part that a word of a file's name tells: `train` for `digits_train-00000-of-00001`; or None."""
    words = re.findall("[a-z]+", stem.lower())
    return next((_NAMES[word] for word in words if word in _NAMES), None)
