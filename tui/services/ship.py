"""What the Ship pane shows and does, in threads: the checklist of a profile, people's answers, the final report."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

from safedl.decision.answers import Answer
from safedl.decision.decide import Decision, Item
from safedl.errors import NotFoundError, cannot_write
from safedl.workspace import Workspace
from tui.states import Look, fitting

if TYPE_CHECKING:
    from safedl.conclusions.gather import Conclusions

LOOKS = {
    "pass": Look("✓", "PASS", "green"),
    "fail": Look("✗", "FAIL", "red"),
    "not applicable": Look("–", "N/A"),
    "waived": Look("◌", "WAIVED", "yellow"),
    "done": Look("✓", "DONE", "green"),
    "open": Look("·", "TODO"),
}
NEXT = {
    "threats_covered": "Choose an attack for each threat in Profile (1), then run it (4).",
    "attacks_run": "Run the profile in Run (4): what is done is kept.",
    "runs_completed": "Run the profile in Run (4): what is done is kept.",
    "versions_recorded": "Run the profile in Run (4): what is done is kept.",
    "dp_budget": "Set a larger target ε, or train for less long, in Defenses (3); then run again.",
}
"""What to do about a failed check, where it is not to try other defenses."""
OTHER_DEFENSES = "Try other defenses, or other parameters, in Defenses (3), then run again (4)."
REPORTS = (".md", ".html", ".htm")


def look(item: Item) -> Look:
    """Return how an item's state looks: a glyph, a word, and a colour that only repeats them."""
    return fitting(LOOKS[item.status])


def read(workspace: Workspace, profile: Path) -> Conclusions:
    """Return what is known about a profile.

    Raises `UsageError` for a profile or answers that cannot be read, `StoreError` if the store cannot be used.
    """
    from safedl.conclusions.gather import conclude
    from safedl.profile.load import load

    return conclude(workspace.db, workspace.results, load(profile))


def answer(workspace: Workspace, profile: str, item: str, given: Answer | None) -> None:
    """Write an answer, or take it back (None). Raises what `cannot_write` returns."""
    from safedl.conclusions import notes

    try:
        notes.change(workspace.results, profile, item, given)
    except OSError as error:
        raise cannot_write(error.filename, error) from error


def write_report(workspace: Workspace, profile: Path, target: Path) -> None:
    """Write the final report, as Markdown or HTML by the file's ending.

    Raises what `cannot_write` returns, and `NotFoundError` for a profile that never ran.
    """
    from safedl.conclusions.write import write_report as write

    found = read(workspace, profile)
    if found.experiment is None:
        raise NotFoundError(f"profile '{found.profile.name}' has not run yet; run it first")
    try:
        write(workspace.results, found, target, "md" if target.suffix.lower() == ".md" else "html")
    except OSError as error:
        raise cannot_write(target, error) from error


def objection(path: str) -> str | None:
    """Return what is wrong with the path of a report, if anything."""
    if Path(path).suffix.lower() not in REPORTS:
        return "name a file that ends with .md or .html"
    return f"{path} is a folder; name a file" if Path(path).is_dir() else None


def toggled(item: Item, today: date) -> Answer | None:
    """Return the answer to a manual item with `done` turned round; None where nothing is left of it."""
    before = item.answer or Answer()
    if before.done:
        kept = Answer(note=before.note, owner=before.owner)
        return kept if kept != Answer() else None
    return Answer(done=True, note=before.note, owner=before.owner, date=today)


def date_of(text: str) -> date | None:
    """Return a date as typed, None for an empty one. Raises `ValueError`."""
    return date.fromisoformat(text) if text else None


def verdict(decision: Decision) -> str:
    """Return GO or BLOCKED with what it comes from, in one line."""
    counts = {status: sum(i.status == status for i in decision.checklist) for status in LOOKS}
    words = (("fail", "failed"), ("pass", "passed"), ("waived", "waived"), ("open", "to do"))
    told = ", ".join(f"{counts[status]} {word}" for status, word in words if counts[status])
    return f"GO: {told}" if decision.go else f"BLOCKED: {told} (exit code 3 in CI)"


def closed(items: Sequence[Item]) -> int:
    """Return how many items need nothing more."""
    return sum(item.status not in ("fail", "open") for item in items)


def described(item: Item) -> str:
    """Return all that is known of an item, with what to do next."""
    parts = [item.detail]
    if item.evidence:
        parts.append(f"evidence  {'  '.join(item.evidence)}")
    if item.answer is not None:
        given = item.answer
        facts = [("waived", given.waiver), ("note", given.note), ("owner", given.owner)]
        facts.append(("date", given.date.isoformat() if given.date else ""))
        parts += [f"{name.ljust(8)}  {text}" for name, text in facts if text]
    steps = []
    if item.status == "fail":
        steps = [NEXT.get(item.id, OTHER_DEFENSES), "w waives it: with a reason, and an owner who answers for it."]
    elif item.status == "open":
        steps = ["space: done   n: note, owner and date   w: waive with a reason and an owner"]
    if item.evidence:
        steps.append("enter opens the runs that this rests on.")
    return "\n".join(parts) + ("\n\n" + "\n".join(steps) if steps else "")
