"""What the Runs pane shows, read in threads: pages of runs from the store, and a run's files."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safedl.errors import NotFoundError
from safedl.text import one_line, shown
from safedl.workspace import Workspace
from tui.services.follow import log_lines

if TYPE_CHECKING:
    from safedl.store.records import RunRow

PAGE = 200
SORTS = {
    "when": "when it was planned", "attack": "attack", "defense": "defense", "dataset": "data set", "model": "model",
    "status": "state", "seed": "seed", "clean_accuracy": "clean accuracy", "asr": "attack success rate",
    "adversarial_accuracy": "adversarial accuracy", "tpr": "detection: true positives",
    "fpr": "detection: false positives", "score.final": "final score", "seconds": "seconds", "memory_mb": "memory",
}  # fmt: skip
"""What may order the runs, in words."""
PICTURES = ("contact_sheet.png", "trigger.png", "mask.png", "overlay.png")


@dataclass(frozen=True)
class Page:
    """Runs that a filter lets through: those read so far, and how many there are of them and of all."""

    rows: list[RunRow]
    found: int
    total: int
    asked: RunRow | None = None
    """A run that was asked for and was none of the rows."""

    @property
    def shown(self) -> list[RunRow]:
        """The rows, below the run that was asked for."""
        if self.asked is None:
            return self.rows
        return [self.asked, *(row for row in self.rows if row.record.uid != self.asked.record.uid)]


@dataclass(frozen=True)
class Order:
    """What orders the runs: `when`, a field or a metric."""

    by: str = "when"
    descending: bool = True


def read_page(workspace: Workspace, filter: str, order: Order, rows: int = PAGE, asked: str | None = None) -> Page:
    """Return the first `rows` runs that a filter lets through, and the run `asked` for; no store yet means no runs.

    Raises `UsageError` for a filter without meaning, `StoreError` if the store cannot be used.
    """
    from safedl.store import connect, queries

    if not connect.exists(workspace.db):
        return Page([], 0, 0)
    found = queries.runs(workspace.db, filter=filter, sort=order.by, descending=order.descending, limit=rows)
    total = queries.count_runs(workspace.db)
    beside = None
    if asked is not None and all(row.record.uid != asked for row in found):
        with suppress(NotFoundError):  # it may have been deleted
            beside = queries.find_run(workspace.db, asked)
    if len(found) < rows:
        return Page(found, len(found), total, beside)
    return Page(found, queries.count_runs(workspace.db, filter) if filter else total, total, beside)


def read_more(workspace: Workspace, filter: str, order: Order, rows: list[RunRow]) -> list[RunRow]:
    """Return the page that follows `rows`."""
    from safedl.store import queries

    newest_first = order == Order()
    return queries.runs(
        workspace.db, filter=filter, sort=order.by, descending=order.descending, limit=PAGE,
        before=rows[-1].record.uid if newest_first and rows else None, offset=0 if newest_first else len(rows),
    )  # fmt: skip


def recover(workspace: Workspace) -> list[str]:
    """Mark the runs of dead drivers as interrupted and return their uids."""
    from safedl.store import recover as store

    return store.recover(workspace.db, workspace.results)


@dataclass(frozen=True)
class Section:
    """One `##` section of a report."""

    title: str
    text: str


@dataclass(frozen=True)
class Picture:
    """An example image of a run, and what the result says about it."""

    path: Path
    caption: str


@dataclass(frozen=True)
class Details:
    """What a run's folder holds. Anything may be missing: a run that failed has no result."""

    uid: str
    result: Mapping[str, Any]
    sections: tuple[Section, ...]
    pictures: tuple[Picture, ...]
    log: tuple[str, ...]


def read_details(workspace: Workspace, uid: str) -> Details:
    """Read a run's folder."""
    folder = workspace.run_folder(uid)
    result = workspace.result(uid) or {}
    log = log_lines(workspace.events(uid)) if folder.is_dir() else []
    return Details(uid, result, split_report(folder / "report.md"), tuple(_pictures(folder, result)), tuple(log))


def split_report(path: Path) -> tuple[Section, ...]:
    """Return a report's sections; what stands before the first `##` is the first. A missing report has none."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ()
    head, *rest = ("\n" + text).split("\n## ")
    first = head.strip().splitlines()
    sections = [Section(first[0].lstrip("# ") if first else "Report", "\n".join(first[1:]).strip())]
    for part in rest:
        title, _, body = part.partition("\n")
        sections.append(Section(title.strip(), body.strip()))
    return tuple(sections)


def _caption(entry: Mapping[str, Any]) -> str:
    """Return what an entry says about its picture; a label whose class has a name is told by that name."""
    facts = {k: v for k, v in entry.items() if k != "path" and v is not None}
    if facts.get("poisoned") is None:  # nobody gave it a label of its own
        facts = {k: v for k, v in facts.items() if not k.startswith("given_")}
    named = {k.replace("_class", "_label") for k in facts if k.endswith("_class")}
    return one_line("  ".join(f"{k.replace('_', ' ')} {shown(v)}" for k, v in facts.items() if k not in named))


def _pictures(folder: Path, result: Mapping[str, Any]) -> list[Picture]:
    """Return the pictures that the result names, with captions, then trigger, mask and overlay."""
    found = []
    for key, entries in result.items():
        if key.startswith("example_") and isinstance(entries, list):
            for entry in (e for e in entries if isinstance(e, dict) and isinstance(e.get("path"), str)):
                found.append(Picture(folder / entry["path"], _caption(entry)))
    found += [
        Picture(folder / name, name.removesuffix(".png").replace("_", " "))
        for name in PICTURES
        if (folder / name).exists()
    ]
    return found
