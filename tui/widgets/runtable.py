"""The list of runs: one line for each."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING

from rich.text import Text

from tui.services.follow import SCAN
from tui.services.names import shortened
from tui.states import look
from tui.widgets.table import Column, Table

if TYPE_CHECKING:
    from safedl.store.records import RunRow

HEADINGS = {"when": "when", "dataset": "data", "model": "model", "seed": "seed", "clean_accuracy": "acc", "asr": "ASR",
            "adversarial_accuracy": "adv",
            "status": "state", "seconds": "secs", "attack": "attack / defense", "kind": "kind"}  # fmt: skip
"""The column that shows what orders the runs."""


class RunTable(Table["RunRow"]):
    """Runs with their marks."""

    def __init__(self, marked: set[str], clock: Callable[[], float], *, id: str) -> None:
        """`marked` holds uids, `clock` tells the time."""
        columns: list[Column[RunRow]] = [
            Column("run", 6, lambda r: r.record.uid[-6:]),
            Column("when", 6, lambda r: _when(r.record.created_at, clock())),
            Column("attack / defense", 0, _what, fit=shortened),
            Column("kind", 8, lambda r: r.record.kind, least=110),
            Column("data", 7, lambda r: r.record.dataset, wide=14, least=70),
            Column("model", 10, lambda r: r.record.model, least=100),
            Column("seed", 4, lambda r: r.record.seed, right=True, least=100),
            Column("acc", 5, lambda r: _share(r, "clean_accuracy"), right=True),
            Column("ASR", 5, lambda r: _share(r, "asr"), right=True),
            Column("adv", 5, lambda r: _share(r, "adversarial_accuracy"), right=True, least=130),
            Column("secs", 6, _seconds, right=True, least=100),
            Column("state", 9, _state, wide=13),
        ]
        super().__init__(columns, key=lambda r: r.record.uid, marked=marked, id=id)


def _when(created_at: str, now: float) -> str:
    """Return the time of a run of today, else its day."""
    at, today = datetime.fromisoformat(created_at).astimezone(), datetime.fromtimestamp(now).astimezone()
    if at.date() == today.date():
        return f"{at:%H:%M}"
    return f"{at:%b %d}" if at.year == today.year else f"{at:%b %y}"


def _what(row: RunRow) -> str:
    record = row.record
    name = "/".join(part for part in (record.attack, record.defense) if part) or record.kind
    return f"{name} ({record.detector})" if record.detector else name


def _share(row: RunRow, metric: str) -> str:
    value = row.metrics.get(metric)
    if value is None and row.record.kind == SCAN:
        return ""  # a scan simulates no attack
    return "–" if value is None else f"{value:.3f}"


def _seconds(row: RunRow) -> str:
    value = row.metrics.get("seconds")
    return "" if value is None else f"{value:.0f}"


def _state(row: RunRow) -> Text:
    shape = look(row.status)
    return Text(f"{shape.glyph} {shape.word}", style=shape.colour)
