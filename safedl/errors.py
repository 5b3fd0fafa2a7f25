"""Errors that a person can act on. Each carries the exit code of the command line."""

from __future__ import annotations

import difflib
import errno
from collections.abc import Iterable


class SafedlError(Exception):
    """Something went wrong that a message explains; never shown with a traceback."""

    exit_code = 1


class UsageError(SafedlError):
    """Bad input: an invalid profile, parameter, data set or model file."""

    exit_code = 2


class IncompleteError(SafedlError):
    """Some runs did not complete, or a check says no."""

    exit_code = 3


class NotFoundError(SafedlError):
    """A file, run or name that does not exist, or an ambiguous abbreviation."""

    exit_code = 4


class StoreError(SafedlError):
    """The store cannot be used: locked, damaged, or from a newer version."""

    exit_code = 5


_SURROUNDINGS = {
    errno.ENOSPC: "no space left on the disk; free some",
    errno.EDQUOT: "the disk quota is used up; free some space",
    errno.EFBIG: "a file would grow beyond what is allowed here (ulimit -f); allow more",
    errno.EROFS: "the folder is read-only; choose one that can be written to with --workspace",
    errno.EACCES: "permission denied; look at its rights, or choose another --workspace",
    errno.EPERM: "permission denied; look at its rights, or choose another --workspace",
    errno.EIO: "the disk reports an error; look at its health",
    errno.ENAMETOOLONG: "a name is longer than the disk allows; choose a shorter one",
    errno.EMFILE: "too many open files; allow more (ulimit -n)",
    errno.ENFILE: "too many open files on this machine; close some",
}


_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
"""No other place on the same disk would do."""


def surroundings(error: BaseException) -> str | None:
    """Return what is wrong around the program and what to do about it, or None for an error of another kind."""
    if not isinstance(error, OSError) or error.errno not in _SURROUNDINGS:
        return None
    return f"{_SURROUNDINGS[error.errno]}{f': {error.filename}' if error.filename else ''}"


def cannot_write(path: object, error: OSError) -> SafedlError:
    """Return what to raise where a named place cannot be written: that is bad input, or a fault of the machine."""
    if error.errno in _FULL:
        return SafedlError(f"{path} cannot be written: {_SURROUNDINGS[error.errno]}")
    return UsageError(f"{path} cannot be written: {error.strerror or error}")


def in_a_line(error: BaseException) -> str:
    """Return an error of any kind as `ValueError: text`: its first line, cut where it is too long to read."""
    first = next(iter(str(error).strip().splitlines()), "")
    return f"{type(error).__name__}: {first[:300]}".removesuffix(": ")


def nearest(name: str, allowed: Iterable[str]) -> str:
    """Return ` Did you mean 'x'?` for the closest allowed name, or an empty string."""
    close = difflib.get_close_matches(name, list(allowed), n=1, cutoff=0.6)
    return f" Did you mean '{close[0]}'?" if close else ""
