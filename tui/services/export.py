"""Tables as files: CSV or JSON, by the file's ending."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from safedl.errors import cannot_write

FORMS = (".csv", ".json")


def objection(path: str) -> str | None:
    """Return what is wrong with the path of an export, if anything."""
    if Path(path).suffix.lower() not in FORMS:
        return "name a file that ends with .csv or .json"
    return f"{path} is a folder; name a file" if Path(path).is_dir() else None


def write_rows(path: Path, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Write a table atomically: CSV with a heading, or a JSON array of objects. Raises what `cannot_write` returns."""
    from safedl.reports import files

    try:
        if path.suffix.lower() == ".json":
            files.write_json(path, [dict(zip(columns, row, strict=True)) for row in rows])
        else:
            text = io.StringIO()
            csv.writer(text, lineterminator="\n").writerows([columns, *rows])
            files.write_text(path, text.getvalue())
    except OSError as error:
        raise cannot_write(path, error) from error
