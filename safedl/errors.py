"""Errors that a person can act on. Each carries the exit code of the command line."""

from __future__ import annotations

import difflib
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


def nearest(name: str, allowed: Iterable[str]) -> str:
    """Return ` Did you mean 'x'?` for the closest allowed name, or an empty string."""
    close = difflib.get_close_matches(name, list(allowed), n=1, cutoff=0.6)
    return f" Did you mean '{close[0]}'?" if close else ""
