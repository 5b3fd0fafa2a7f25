"""Values as people read them, on any terminal."""

from __future__ import annotations

import unicodedata
from typing import Any

from safedl.errors import UsageError


def printable(text: str) -> str:
    """Return text from anywhere (names, errors) with control characters shown instead of obeyed."""
    return "".join(c if c.isprintable() or c in "\n\t" else c.encode("unicode_escape").decode() for c in text)


def one_line(text: str) -> str:
    """Return text from anywhere as a single harmless line."""
    return printable(text).replace("\n", " ").replace("\t", " ")


def composed(name: str) -> str:
    """Return a name with each letter and its accent as one character, as keyboards write it: macOS splits them."""
    return unicodedata.normalize("NFC", name)


def check_unicode(path: str, where: str = "") -> None:
    """Raise `UsageError` that begins with `where` for a path that cannot be written as UTF-8: it may hold any bytes."""
    if any("\ud800" <= c <= "\udfff" for c in path):
        raise UsageError(f"{where}{path!r} holds bytes that are no UTF-8, which no profile can name; rename it")


def shown(value: Any) -> str:
    """Return a value for a table's cell: four digits for numbers, nothing for None."""
    if value is None:
        return ""
    if isinstance(value, float):
        value = value or 0.0  # a change that was rounded to 0 from below is no fall
        return f"{value:.4g}" if abs(value) < 1e4 else f"{value:,.0f}"
    return printable(str(value)).replace("\n", " ")


def signed(change: float) -> str:
    """Return a change with its sign and three decimals. What rounds to 0 is no fall: `+0.000`."""
    return f"{round(change, 3) or 0.0:+.3f}"


def duration(seconds: float) -> str:
    """Return seconds as `4:10` or `1:04:10`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
