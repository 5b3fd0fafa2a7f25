"""Questions to the store that come with Safe-DL: one SQL file each, for the command line and the app."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safedl.errors import NotFoundError, UsageError, nearest

FOLDER = Path(__file__).with_name("named_queries")
_PARAMETER = re.compile(r":([a-z_]+)")
_NUMBER = re.compile(r"-?\d+(\.\d+)?")


@dataclass(frozen=True)
class NamedQuery:
    """A query of the file `<name>.sql`: its first line is the title, `-- needs: a, b` names what must be given.

    Other parameters may be left out, which means all.
    """

    name: str
    title: str
    sql: str
    parameters: tuple[str, ...]
    required: tuple[str, ...]

    def bind(self, given: Mapping[str, str]) -> dict[str, Any]:
        """Return a value for each parameter, numbers as numbers. Raises `UsageError` for unknown or missing names."""
        for name in given:
            if name not in self.parameters:
                raise UsageError(
                    f"{self.name}: no parameter '{name}'; it has: {', '.join(self.parameters)}."
                    f"{nearest(name, self.parameters)}"
                )
        missing = [name for name in self.required if name not in given]
        if missing:
            raise UsageError(f"{self.name} needs: {' '.join(f'-p {name}=...' for name in missing)}")
        return {name: value(given[name]) if name in given else None for name in self.parameters}


def named_queries() -> dict[str, NamedQuery]:
    """Return all named queries by name."""
    return {path.stem: _read(path) for path in sorted(FOLDER.glob("*.sql"))}


def named_query(name: str) -> NamedQuery:
    """Return one query. Raises `NotFoundError` with the nearest name."""
    known = named_queries()
    if name not in known:
        raise NotFoundError(f"no query '{name}'; there are {', '.join(known)}.{nearest(name, known)}")
    return known[name]


def _read(path: Path) -> NamedQuery:
    text = path.read_text(encoding="utf-8")
    comments = [line.removeprefix("--").strip() for line in text.splitlines() if line.startswith("--")]
    needs = next((c.removeprefix("needs:") for c in comments if c.startswith("needs:")), "")
    sql = "\n".join(line for line in text.splitlines() if not line.startswith("--"))
    required = tuple(name.strip() for name in needs.split(",") if name.strip())
    return NamedQuery(path.stem, comments[0], sql, tuple(dict.fromkeys(_PARAMETER.findall(sql))), required)


def value(text: str) -> str | int | float:
    """Return a parameter as typed on the command line: a number if it looks like one."""
    if not _NUMBER.fullmatch(text):
        return text
    return float(text) if "." in text else int(text)
