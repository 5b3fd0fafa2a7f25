"""What the parts of a data set are called: folders and files of training images, and of those that measure."""

from __future__ import annotations

import re
from collections.abc import Sequence

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


def difference(names: Sequence[str], training: Sequence[str]) -> str | None:
    """Return what to say of a part whose classes are numbered in another way than those of the part before, or None.

    That one of them has more classes is no other way.
    """
    found = next(((n, pair) for n, pair in enumerate(zip(names, training, strict=False)) if pair[0] != pair[1]), None)
    if found is None:
        return None
    number, (name, other) = found
    return f"class {number} is {name} here and {other} in the training part; number the classes of all parts alike"
