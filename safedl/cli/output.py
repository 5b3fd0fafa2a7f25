"""Data on stdout, everything else on stderr; plain where there is no terminal."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from safedl.events import finite
from safedl.text import printable, shown


def note(text: str) -> None:
    """Say something to the person, on stderr."""
    print(printable(text), file=sys.stderr)


def print_json(value: Any) -> None:
    """Print one JSON document on stdout; NaN becomes null."""
    print(json.dumps(finite(value), indent=2, ensure_ascii=False, default=str))


def print_rows(
    rows: Sequence[Mapping[str, Any]], *, as_json: bool = False, as_csv: bool = False, title: str = ""
) -> None:
    """Print rows that share their keys as a table, as a JSON array of objects, or as CSV."""
    if as_json:
        print_json(list(rows))
    elif as_csv:
        writer = csv.writer(sys.stdout, lineterminator="\n")
        if rows:
            writer.writerow(rows[0])
        writer.writerows([["" if v is None else v for v in row.values()] for row in rows])
    else:
        _print_table(rows, title)


def _print_table(rows: Sequence[Mapping[str, Any]], title: str) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console()
    if not console.is_terminal:
        console = Console(width=10_000, no_color=True)  # a pipe has no width: nothing is cut
    table = Table(box=box.SIMPLE_HEAD, title=Text(title) if title else None, title_justify="left", pad_edge=False)
    numeric = {key for key in (rows[0] if rows else ()) if all(isinstance(r[key], int | float | None) for r in rows)}
    for key in rows[0] if rows else ():
        table.add_column(Text(key), justify="right" if key in numeric else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(shown(v)) for v in row.values()))
    if rows:
        console.print(table)
