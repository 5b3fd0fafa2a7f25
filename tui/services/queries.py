"""SQL of the console, asked in threads: parameters in comments, rows that are capped, time in milliseconds."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

from safedl.store import sql
from safedl.store.named import NamedQuery, value
from safedl.store.sql import Answer

MOST_ROWS = 500
LONGEST = 120.0
"""Seconds after which a query that nobody stopped is stopped."""
MOST_EXPORTED = 1_000_000
_GIVEN = re.compile(r"--\s*(\w+)\s*=\s*(.*?)\s*")


@dataclass(frozen=True)
class Answered:
    """What a query returned, the query, and the milliseconds that it took."""

    text: str
    answer: Answer
    milliseconds: float


def given(text: str) -> dict[str, Any]:
    """Return the parameters that a query's first lines give: `-- attack = static_patch`. Without a value: NULL."""
    found: dict[str, Any] = {}
    for line in text.splitlines():
        match = _GIVEN.fullmatch(line.strip())
        if match is None:
            break
        found[match[1]] = value(match[2]) if match[2] else None
    return found


def ask(db: Path, text: str, stopped: Callable[[], bool], limit: int = MOST_ROWS) -> Answered:
    """Answer a query. Raises what `safedl.store.sql.query` raises."""
    start = perf_counter()
    answer = sql.query(db, text, given(text), limit=limit, timeout=LONGEST, stopped=stopped)
    return Answered(text, answer, 1000 * (perf_counter() - start))


def written_out(query: NamedQuery, known: dict[str, str]) -> str:
    """Return a named query as text for the console, each parameter in a line of its own, with what is known of them."""
    names = [*query.required, *(name for name in query.parameters if name not in query.required)]
    lines = [f"-- {name} = {known.get(name, '') if name in query.required else ''}".rstrip() for name in names]
    return "\n".join([*lines, query.sql.strip()])


def missing(query: NamedQuery, known: dict[str, str]) -> list[str]:
    """Return the parameters that must still be filled in."""
    return [name for name in query.required if not known.get(name)]
