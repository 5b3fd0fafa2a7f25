"""What the Review pane shows and writes: what a scan found, its suspects page by page, and the decisions about them.

Everything here that reads or writes files belongs into a thread.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import TYPE_CHECKING, Any

from rich.text import Text

from safedl import review
from safedl.errors import SafedlError, UsageError
from safedl.review import DROP, KEEP, Decision, Suspect
from safedl.text import one_line
from safedl.workspace import Workspace
from tui.services.follow import SCAN

if TYPE_CHECKING:
    from safedl.store.records import RunRow

CHOICES = 500
"""Scans that can be chosen from, the newest ones."""


@dataclass(frozen=True)
class Findings:
    """What a scan's result says. `targets` are names of classes; `suspects` is how many there are."""

    verdict: str
    evidence: tuple[str, ...]
    limits: tuple[str, ...]
    targets: tuple[str, ...]
    false_alarm_rate: float | None
    suspects: int
    classes: tuple[str, ...]

    def class_name(self, label: int) -> str:
        """Return a class's name, or its number if it has none."""
        return one_line(self.classes[label]) if 0 <= label < len(self.classes) else str(label)


def findings(result: Mapping[str, Any]) -> Findings:
    """Return what a scan's `result.json` says; what is missing is empty."""
    details = _mapping(result.get("details"))
    classes = tuple(str(name) for name in _list(result.get("class_names")))
    rate, suspects = details.get("false_alarm_rate"), details.get("suspects")
    found = Findings(
        verdict=one_line(str(details.get("verdict") or "no verdict")),
        evidence=tuple(one_line(str(text)) for text in _list(details.get("evidence"))),
        limits=tuple(one_line(str(text)) for text in _list(details.get("limits"))),
        targets=(),
        false_alarm_rate=rate if isinstance(rate, float | int) else None,
        suspects=suspects if isinstance(suspects, int) else 0,
        classes=classes,
    )
    targets = tuple(found.class_name(t) for t in _list(details.get("target_classes")) if isinstance(t, int))
    return replace(found, targets=targets)


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


@dataclass(frozen=True)
class Scan:
    """A scan that has been opened. `shape`: rows and columns of its pictures, None if there are none to be read."""

    uid: str
    title: str
    findings: Findings
    shape: tuple[int, int] | None
    decisions: Mapping[int, Decision]


def open_scan(workspace: Workspace, uid: str) -> Scan:
    """Open a scan. Raises `UsageError` if its result or its decisions cannot be read."""
    result = workspace.result(uid)
    if result is None:
        raise UsageError(f"scan {uid} has no result that can be read in {workspace.run_folder(uid)}")
    shape = None
    with suppress(OSError, ValueError):  # each suspect then says that it has no picture
        images = review.suspect_images(workspace.run_folder(uid))
        shape = (images.shape[2], images.shape[3]) if images.ndim == 4 and min(images.shape[1:]) > 0 else None
    title = one_line(f"{result.get('dataset')} / {result.get('model')}")
    return Scan(uid, title, findings(result), shape, review.read_decisions(workspace.results, uid))


def read_decisions(workspace: Workspace, uid: str) -> dict[int, Decision]:
    """Return the decisions about a scan as they are recorded. Raises `UsageError` if they cannot be read."""
    return review.read_decisions(workspace.results, uid)


def stamp(workspace: Workspace, uid: str) -> tuple[int, int] | None:
    """Return what changes whenever decisions about a scan are recorded; None if there are none."""
    try:
        status = review.path_of(workspace.results, uid).stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size


def newest_scans(workspace: Workspace, limit: int = CHOICES) -> list[RunRow]:
    """Return the completed scans, newest first; no store yet means none."""
    from safedl.store import connect, queries

    if not connect.exists(workspace.db):
        return []
    return queries.runs(workspace.db, kind=SCAN, status="completed", limit=limit)


@dataclass(frozen=True)
class Page:
    """Suspects by their place in the ranked list, and the pictures of those from `start` on."""

    start: int
    suspects: Mapping[int, Suspect]
    pictures: tuple[list[Text], ...]


def read_page(workspace: Workspace, scan: Scan, start: int, count: int, size: tuple[int, int], colours: bool) -> Page:
    """Read `count` suspects from `start` on with pictures of `size` cells (columns, rows).

    The suspects of the page before and after come along, so that keys that are typed ahead find them.
    """
    first = max(0, start - count)
    with _readable(workspace, scan.uid):
        found = review.read_suspects(workspace.run_folder(scan.uid), first, start + 2 * count - first)
    suspects = dict(enumerate(found, first))
    shown = range(start, min(start + count, first + len(found)))
    return Page(start, suspects, tuple(_draw(workspace, scan, shown, size, colours)))


def _draw(
    workspace: Workspace, scan: Scan, places: range, size: tuple[int, int], colours: bool
) -> Iterator[list[Text]]:
    from tui.widgets.image import half_blocks

    problem = [Text("no picture", style="dim")]
    try:
        images = review.suspect_images(workspace.run_folder(scan.uid))
    except (OSError, ValueError):
        images = None
    for place in places:
        if images is None or scan.shape is None or place >= len(images):
            yield problem
            continue
        try:
            times = max(1, size[0] // scan.shape[1])
            yield half_blocks(images[place].repeat(times, 1).repeat(times, 2), *size, colours=colours)
        except (OSError, ValueError, TypeError):  # Pillow's words for pixels that are no picture
            yield problem


def members(workspace: Workspace, uid: str, group: int) -> list[Suspect]:
    """Return all suspects of a group."""
    with _readable(workspace, uid):
        return [s for s in review.each_suspect(workspace.run_folder(uid)) if s.group == group]


def next_undecided(workspace: Workspace, uid: str, decided: Set[int], place: int) -> int | None:
    """Return the place of the first suspect after `place` that nobody decided about, or of the first of all."""
    folder = workspace.run_folder(uid)
    with _readable(workspace, uid):
        for i, suspect in enumerate(review.each_suspect(folder, place + 1), place + 1):
            if suspect.index not in decided:
                return i
        for i, suspect in enumerate(islice(review.each_suspect(folder), place + 1)):
            if suspect.index not in decided:
                return i
    return None


@contextmanager
def _readable(workspace: Workspace, uid: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise SafedlError(f"the suspects in {workspace.run_folder(uid)} cannot be read: {error.strerror}") from error


@dataclass
class _Step:
    """What was there before a decision, to go back to, and where the cursor stood."""

    before: dict[int, Decision | None]
    place: int


@dataclass
class Notebook:
    """The decisions about one scan: changed by the app, written by threads, one after the other and in order."""

    decide: Callable[[Mapping[int, Decision | None]], object]
    """Writes changes into the record."""
    values: dict[int, Decision] = field(default_factory=dict)
    problem: str = ""
    """Why what is shown has not been written, if so."""
    changes: int = 0
    """How often it has been changed, to be compared with an earlier time."""
    _steps: list[_Step] = field(default_factory=list)
    _pending: dict[int, Decision | None] = field(default_factory=dict)
    _guard: threading.Lock = field(default_factory=threading.Lock)
    _writing: threading.Lock = field(default_factory=threading.Lock)

    def set(self, changes: Mapping[int, Decision | None], place: int) -> None:
        """Decide, or take decisions back (None), in one step that can be undone; `write` then records it."""
        self._steps.append(_Step({i: self.values.get(i) for i in changes}, place))
        self._apply(changes)

    def undo(self) -> int | None:
        """Take the last step back and return where the cursor stood; None if there is none."""
        if not self._steps:
            return None
        step = self._steps.pop()
        self._apply(step.before)
        return step.place

    def _apply(self, changes: Mapping[int, Decision | None]) -> None:
        self.changes += 1
        for index, decision in changes.items():
            if decision is None:
                self.values.pop(index, None)
            else:
                self.values[index] = decision
        with self._guard:
            self._pending.update(changes)

    @property
    def unwritten(self) -> bool:
        """Whether decisions wait to be recorded, or are being recorded."""
        return bool(self._pending) or self._writing.locked()

    def write(self) -> None:
        """Record what has not been recorded yet; what fails is tried again with the next decision."""
        with self._writing:
            with self._guard:
                batch, self._pending = self._pending, {}
            if not batch:
                return
            try:
                self.decide(batch)
            except Exception as error:
                with self._guard:
                    self._pending = {**batch, **self._pending}
                self.problem = str(error)
                raise
            self.problem = ""

    def told(self, changes: Mapping[int, Decision | None], word: str, members: int) -> str:
        """Return what deciding about a group of so many `members` will do, in words; `word` says what then holds."""
        replaced = sum(self.values.get(index, decision) != decision for index, decision in changes.items())
        text = f"{len(changes):,} {word}"
        text += f", {replaced:,} earlier decision{'s' * (replaced != 1)} replaced" if replaced else ""
        text += f"; {members - len(changes):,} look like no other class" if len(changes) < members else ""
        return f"{text}; u takes it back"

    def counts(self) -> dict[str, int]:
        """Return how many suspects are kept, dropped and relabelled."""
        values = list(self.values.values())
        kept, dropped = values.count(KEEP), values.count(DROP)
        return {"kept": kept, "dropped": dropped, "relabelled": len(values) - kept - dropped}


def write_all(notebooks: Iterable[Notebook]) -> None:
    """Record what waits in any of them; what fails goes on waiting, and its notebook says why."""
    for notebook in notebooks:
        with suppress(SafedlError, OSError):
            notebook.write()


def open_notebook(workspace: Workspace, scan: Scan) -> Notebook:
    """Return the decisions about a scan, to be changed and written."""
    results, uid = workspace.results, scan.uid
    return Notebook(lambda changes: review.decide(results, uid, changes), dict(scan.decisions))
