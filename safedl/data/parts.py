"""What the parts of a data set are called: folders and files of training images, and of those that measure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import zip_longest

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


def difference(names: Sequence[str], training: Sequence[str]) -> str:
    """Return what to say of a part whose classes are numbered in another way than those of the part before."""
    pairs = zip_longest(names, training, fillvalue="none")
    number, (name, other) = next((n, pair) for n, pair in enumerate(pairs) if pair[0] != pair[1])
    return f"class {number} is {name} here and {other} in the training part; number the classes of all parts alike"
