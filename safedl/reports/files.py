"""Files that a reader never sees half-written: each is written aside, brought to disk and moved into place."""

from __future__ import annotations

import json
import math
import os
import re
import uuid
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any


def write_bytes(path: Path, data: bytes) -> None:
    """Write or replace a file atomically; its folder is made if missing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{uuid.uuid4().hex}.tmp")
    try:
        with temporary.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Bring every file below a folder to disk, whoever wrote it."""
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())


def write_text(path: Path, text: str) -> None:
    """Write or replace a text file atomically, as UTF-8."""
    write_bytes(path, text.encode())


def write_json(path: Path, value: Any) -> None:
    """Write or replace a JSON file atomically; see `encode_json`."""
    write_text(path, encode_json(value))


def encode_json(value: Any) -> str:
    """Return indented JSON in ASCII, so that control characters in names reach no terminal; see `jsonable`.

    Lists of plain numbers stand on one line: thousands of indices are read by programs, not by eye.
    """
    text = json.dumps(jsonable(value), indent=2, allow_nan=False)
    # A line break inside the brackets never occurs within a JSON string, so only lists match.
    return re.sub(r"\[\n([\s\d.,eE+-]*)\]", lambda m: f"[{' '.join(m[1].split())}]", text) + "\n"


def jsonable(value: Any) -> Any:
    """Return `value` as plain JSON values, at any depth: arrays become lists, NaN and infinities None."""
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, Mapping):
        return {str(key): jsonable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [jsonable(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, str | int) else str(value)


def remove_others(folder: Path, keep: Collection[str]) -> None:
    """Delete the PNG images in `folder` whose names are not in `keep`; a missing folder has none."""
    for path in folder.glob("*.png"):
        if path.name not in keep:
            path.unlink(missing_ok=True)


def file_name(position: int, name: str) -> str:
    """Return a harmless and unique PNG file name for something called `name` by the data."""
    safe = re.sub(r"[^A-Za-z0-9._-]+", "_", name)[:40].strip("._-")
    return f"{position:02d}_{safe}.png" if safe else f"{position:02d}.png"
