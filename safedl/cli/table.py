"""Rows as a table: at full width where nobody looks, on a terminal so that it fits, or else record by record."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from safedl.text import shown

PROSE, WORD, PIECE = 20, 40, 30
"""Width that a folded text gets at least; up to which its words stay whole; of the pieces of longer ones.

So a path may be folded, but not a uid or the name of a defense, which people copy.
"""
GAP = 2
"""Between two columns of a table that would not fit otherwise."""

Rows = Sequence[Mapping[str, Any]]


def print_table(rows: Rows, title: str, spare: Sequence[str]) -> str:
    """Print rows that share their keys on stdout; return what a terminal left out or shows otherwise, or nothing.

    Where a terminal is too narrow, columns without a value go first, then those in `spare`, in their order, as few as
    must. Long texts may be folded; if that does not do, each row becomes a block of lines.
    """
    if not sys.stdout.isatty():  # a file has no width: nothing is cut
        console = Console(width=10_000, no_color=True, force_terminal=False)
        console.print(_table(rows, tuple(rows[0]), title))
        return ""
    console = Console()
    table = _table(rows, tuple(rows[0]), title)
    if console.measure(table, options=console.options.update(max_width=10_000)).maximum <= console.width:
        console.print(table)
        return ""
    filled = [key for key in rows[0] if any(shown(row[key]) for row in rows)] or list(rows[0])
    widths = _fit(rows, filled, spare, console.width)
    if widths is None:
        _print_records(console, rows, filled, title)
        return f"shown record by record: a table of {len(filled)} columns does not fit into {console.width}"
    console.print(_table(rows, tuple(widths), title, widths))
    left_out = [key for key in filled if key not in widths]
    return f"left out to fit into {console.width} columns: {', '.join(left_out)}" if left_out else ""


def _fit(rows: Rows, columns: Sequence[str], spare: Sequence[str], width: int) -> dict[str, int] | None:
    """Return the columns to show and their widths, or None if they do not fit even without those to spare."""
    natural = {key: max(cell_len(key), *(cell_len(shown(row[key])) for row in rows)) for key in columns}
    least = {key: _least(rows, key, natural[key]) for key in columns}

    def fits(keys: Sequence[str]) -> bool:
        return sum(least[key] + GAP for key in keys) - GAP <= width

    dropped: list[str] = []
    for key in (key for key in spare if key in columns):
        if fits([c for c in columns if c not in dropped]):
            break
        dropped.append(key)
    for key in dropped[::-1]:  # a wide column that goes late makes room for narrow ones
        if fits([c for c in columns if c == key or c not in dropped]):
            dropped.remove(key)
    chosen = [c for c in columns if c not in dropped]
    if not fits(chosen):
        return None
    widths = {key: max(least[key], min(natural[key], width)) for key in chosen}
    while sum(widths.values()) + GAP * (len(chosen) - 1) > width:
        widest = max((key for key in chosen if widths[key] > least[key]), key=widths.__getitem__)
        widths[widest] -= 1
    return widths


def _least(rows: Rows, key: str, natural: int) -> int:
    """Return the width below which a column would be unreadable."""
    word = max((cell_len(word) for row in rows for word in shown(row[key]).split()), default=0)
    return max(cell_len(key), min(natural, PROSE), word if word <= WORD else PIECE)


def _table(rows: Rows, columns: Sequence[str], title: str, widths: Mapping[str, int] | None = None) -> Table:
    """Return the table, tightly set where `widths` say how wide each column is."""
    tight = widths is not None
    table = Table(
        box=box.SIMPLE_HEAD, title=Text(title) if title else None, title_justify="left", pad_edge=False,
        collapse_padding=tight, show_edge=not tight,
    )  # fmt: skip
    for key in columns:
        number = all(isinstance(row[key], int | float | None) for row in rows)
        width = widths[key] if widths is not None else None
        table.add_column(Text(key), justify="right" if number else "left", overflow="fold", width=width)
    for row in rows:
        table.add_row(*(Text(shown(row[key])) for key in columns))
    return table


def _print_records(console: Console, rows: Rows, columns: Sequence[str], title: str) -> None:
    if title:
        console.print(Text(title))
    for number, row in enumerate(rows):
        if number:
            console.print()
        for key in columns:
            console.print(Text(f"{key}: {shown(row[key])}".rstrip()))
