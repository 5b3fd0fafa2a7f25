"""Markdown from values: tables, numbers, and text from anywhere made harmless."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from safedl.text import signed

_ENTITIES = {"&": "&amp;", "<": "&lt;", ">": "&gt;", "|": "&#124;", "`": "&#96;", "://": ":&#47;/", "www.": "www&#46;"}
_MARK = re.compile(r"[\\*\[\]~$]|(?<![^\W_])_|_(?![^\W_])|^[-+=#]")
"""What Markdown reads as more than text; underscores within words are text."""
_ORDINAL = re.compile(r"^(\d+)(?=[.)])")
"""What Markdown reads as the start of a numbered list."""

NOTHING = "-"
"""What a table shows for a value that does not exist."""


class Markup(str):
    """Text that is Markdown already: not escaped again."""

    __slots__ = ()


def plain(text: object, limit: int = 200) -> str:
    """Return text from anywhere as one line: control and direction characters shown instead of obeyed, the rest cut."""
    raw = str(text)
    cut = raw if len(raw) <= limit else raw[: limit - 1] + "…"
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in cut)


def escape(text: object, limit: int = 200) -> Markup:
    """Return text from anywhere so that Markdown and HTML show it as it is, on one line and in a table's cell."""
    if isinstance(text, Markup):
        return text
    marked = _ORDINAL.sub(r"\1\\", _MARK.sub(r"\\\g<0>", plain(text, limit)))
    for raw, entity in _ENTITIES.items():
        marked = marked.replace(raw, entity)
    return Markup(marked)


def number(value: float | None) -> str:
    """Return a number with three decimals (integers without), small ones in scientific notation; `-` for none."""
    if value is None or math.isnan(value):
        return NOTHING
    if isinstance(value, int):
        return str(value)
    if value != 0 and abs(value) < 0.0005:
        return f"{value:.2e}"
    return f"{value:.3f}"


def difference(after: float | None, before: float | None) -> str:
    """Return `after - before` with its sign and three decimals; `-` if either is missing."""
    if after is None or before is None:
        return NOTHING
    return signed(after - before)


def cell(value: Any) -> Markup:
    """Return a value as the text of a table's cell: numbers by `number`, yes and no, long lists cut, text escaped."""
    if isinstance(value, Markup):
        return value
    if isinstance(value, bool):
        return Markup("yes" if value else "no")
    if value is None or isinstance(value, int | float):
        return Markup(number(value))
    if isinstance(value, Mapping):
        return _enumeration([f"{escape(key)}: {cell(item)}" for key, item in value.items()])
    if isinstance(value, list | tuple):
        return _enumeration([cell(item) for item in value])
    return escape(value)


def exact(value: Any) -> Any:
    """Return a parameter for a cell: a fraction is shown as it was written, not rounded to three decimals."""
    return Markup(f"{value:.12g}") if isinstance(value, float) else value


def table(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> Markup:
    """Return a table; columns of numbers are set to the right. Without rows it is the word `none`."""
    body = [list(row) for row in rows]
    if not body:
        return Markup("none")
    numeric = [all(_numeric(row[i]) for row in body) for i in range(len(header))]
    lines: list[list[str]] = [[escape(name) for name in header], ["---:" if right else "---" for right in numeric]]
    lines += [[cell(value) for value in row] for row in body]
    return Markup("\n".join("| " + " | ".join(line) + " |" for line in lines))


def image(alt: object, path: str) -> Markup:
    """Return an image at a relative path that this program has chosen itself."""
    return Markup(f"![{escape(alt)}]({path})")


def bullets(items: Iterable[object], limit: int = 1000) -> Markup:
    """Return a list with one line per item, each cut at `limit` characters."""
    return Markup("\n".join(f"- {escape(item, limit)}" for item in items))


def section(title: str, *parts: str, level: int = 2) -> Markup:
    """Return a heading and its parts, or nothing if all parts are empty."""
    return blocks(f"{'#' * level} {escape(title)}", *parts) if any(parts) else Markup("")


def blocks(*parts: str) -> Markup:
    """Return parts of a document with a blank line between them, empty ones left out."""
    return Markup("\n\n".join(part for part in parts if part))


def page(*parts: str) -> Markup:
    """Return a whole document: its parts with a blank line between them, and a line break at the end."""
    return Markup(blocks(*parts) + "\n")


def _enumeration(items: Sequence[str], limit: int = 10) -> Markup:
    shown = ", ".join(items[:limit])
    return Markup(f"{shown} ... ({len(items)} in all)" if len(items) > limit else shown or "none")


def _numeric(value: Any) -> bool:
    if isinstance(value, bool):
        return False
    return value is None or isinstance(value, int | float) or bool(re.fullmatch(r"[-+\d][-+.\de]*|-", str(value)))
