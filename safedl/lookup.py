"""Where the files and folders lie that a profile or an option names."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from safedl.errors import UsageError


def find(name: str, folders: Sequence[str | Path]) -> Path | None:
    """Return where a file or folder lies: by its absolute path, or in the first of `folders` that has it.

    Without folders it is looked for in the current one. What cannot be looked for is not there.
    """
    try:
        return next((c for c in _candidates(name, folders) if c.exists()), None)
    except OSError:  # a name too long for the disk, a locked folder
        return None


def require(name: str, folders: Sequence[str | Path], key: str) -> Path:
    """Return the absolute path of what `find` finds.

    Raises `UsageError` naming the profile's `key` if it is not there, and `OSError` if it cannot be looked for.
    """
    candidates = _candidates(name, folders)
    for candidate in candidates:
        if candidate.exists():
            return _plain(candidate.absolute())
    looked = dict.fromkeys(os.path.normpath(c.absolute().parent) for c in candidates)
    raise UsageError(f"{key}: no such file: {name} (looked in {', '.join(looked)})")


def expanded(name: str) -> Path:
    """Return a path with the home folder that `~` or `~user` stands for; as it is where that user is unknown here."""
    try:
        return Path(name).expanduser()
    except RuntimeError:
        return Path(name)


def _candidates(name: str, folders: Sequence[str | Path]) -> list[Path]:
    path = expanded(name)
    return [path] if path.is_absolute() else [Path(folder) / path for folder in folders or [Path()]]


def _plain(path: Path) -> Path:
    """Return a path without `..`, as people read it, where that is the same file: behind links it may be another."""
    plain = Path(os.path.normpath(path))
    return plain if plain.exists() and plain.samefile(path) else path
