"""`safedl review`: the suspects of a scan, and what is decided about each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from safedl.cli.output import note, print_json, print_rows
from safedl.errors import IncompleteError, UsageError, nearest
from safedl.text import composed
from safedl.workspace import Workspace

if TYPE_CHECKING:
    from safedl.review import Decision, Suspect

WHO = "N|gN"
"""A position in the data, or all suspects of a group."""


@dataclass(frozen=True)
class _Changes:
    """What is decided by position: for whole groups, and for single suspects, which are exceptions from it."""

    groups: dict[int, Decision | None]
    single: dict[int, Decision | None]

    def add(self, option: str, word: str, index: int, decision: Decision | None) -> None:
        """Note a decision. Raises `UsageError` where another one is asked for."""
        if (self.groups if _is_group(word) else self.single).setdefault(index, decision) != decision:
            raise UsageError(f"{option} {word}: position {index} is decided about twice")


def review(
    context: typer.Context,
    run: Annotated[str, typer.Argument(help="A scan; part of its uid will do.")],
    keep: Annotated[
        list[str] | None, typer.Option(help="Keep the suspect at a position, or group.", metavar=WHO)
    ] = None,
    drop: Annotated[list[str] | None, typer.Option(help="Leave it out.", metavar=WHO)] = None,
    relabel: Annotated[
        list[str] | None,
        typer.Option(help="Give it the class proposed, or one that you name.", metavar=f"{WHO}[=CLASS]"),
    ] = None,
    undecided: Annotated[list[str] | None, typer.Option(help="Take decisions back.", metavar=WHO)] = None,
    limit: Annotated[int, typer.Option(min=0, help="Show so many suspects, the worst first.", metavar="N")] = 50,
    json: Annotated[bool, typer.Option("--json", help="Print an array of objects, all suspects.")] = False,
) -> None:
    """Show a scan's suspects, and decide about them: options may be repeated, positions are exceptions from groups."""
    from safedl.review import DROP, KEEP, decide, read_decisions, read_suspects

    workspace: Workspace = context.obj
    uid = _find(workspace, run)
    result = workspace.result(uid)
    if result is None:
        raise IncompleteError(f"scan {uid} has no result")
    suspects, classes = read_suspects(workspace.run_folder(uid)), [str(name) for name in result["class_names"]]
    changes = _Changes({}, {})
    simple: list[tuple[str, Sequence[str] | None, Decision | None]] = [
        ("--keep", keep, KEEP), ("--drop", drop, DROP), ("--undecided", undecided, None)
    ]  # fmt: skip
    for option, given, decision in simple:
        for word in given or ():
            for suspect in _meant(option, word, suspects):
                changes.add(option, word, suspect.index, decision)
    for word in relabel or ():
        who, named, name = word.partition("=")
        for suspect in _meant("--relabel", who, suspects):
            if named or suspect.proposed_label is not None or not _is_group(who):  # of a group, those that can be
                changes.add("--relabel", who, suspect.index, _class(suspect, name if named else None, classes))
    if wanted := changes.groups | changes.single:
        note(f"written to {decide(workspace.results, uid, wanted)}")
    decisions = read_decisions(workspace.results, uid)
    rows = [_row(s, decisions.get(s.index), classes) for s in suspects]
    if json:
        print_json(rows)
        return
    if not rows:
        note("the scan found no suspects: there is nothing to decide")
        return
    print_rows(rows[:limit], title=suspects_title(len(rows), limit), ways="--json")
    done = [decisions[s.index] for s in suspects if s.index in decisions]
    kept, dropped = done.count(KEEP), done.count(DROP)
    note(
        f"{kept} kept, {dropped} dropped, {len(done) - kept - dropped} relabelled, {len(rows) - len(done)} undecided; "
        f"without those dropped and undecided: safedl export {uid} --data OUT.npz"
    )


def suspects_title(count: int, shown: int) -> str:
    """Return what stands above a list of suspects that shows no more than `shown` of them."""
    return f"{count:,} suspect{'s' * (count != 1)}" + (f", the first {shown}" if shown < count else "")


def _find(workspace: Workspace, name: str) -> str:
    """Return the uid of a scan's run; `name` may be that of its experiment. Raises `UsageError` for other runs."""
    uid = workspace.find(name)
    if workspace.experiment_folder(uid).is_dir():
        uid = str(workspace.read_plan(uid)["runs"][0])
    result = workspace.result(uid)
    kind = result["kind"] if result is not None else workspace.stage_names(uid).get(uid, "").partition("@")[0]
    if kind != "scan":
        raise UsageError(f"run {uid} is no scan; see: safedl runs ls --kind scan")
    return uid


def _meant(option: str, word: str, suspects: Sequence[Suspect]) -> list[Suspect]:
    """Return the suspects at a position (`17`), or of a group (`g0`). Raises `UsageError` if there is none."""
    number, group = word.removeprefix("g"), _is_group(word)
    if not (number.isascii() and number.isdecimal() and len(number) <= 18):
        raise UsageError(f"{option} {word}: give a suspect's position, as 17, or a group, as g0")
    found = [s for s in suspects if (s.group if group else s.index) == int(number)]
    if not found:
        raise UsageError(f"{option} {word}: {'no group' if group else 'no suspect'} of this scan")
    return found


def _is_group(word: str) -> bool:
    return word.startswith("g")


def _class(suspect: Suspect, name: str | None, classes: Sequence[str]) -> int:
    """Return the class to relabel a suspect to: the one named, else the one proposed."""
    if name is not None:
        name = name if name in classes else composed(name)
        if name not in classes:
            raise UsageError(f"--relabel {suspect.index}: no class '{name}'.{nearest(name, classes)}")
        return classes.index(name)
    if suspect.proposed_label is None:
        raise UsageError(f"--relabel {suspect.index}: no other class is proposed; name one: {suspect.index}=CLASS")
    return suspect.proposed_label


def _row(suspect: Suspect, decision: Decision | None, classes: Sequence[str]) -> Mapping[str, Any]:
    proposed = suspect.proposed_label
    return {
        "index": suspect.index,
        **({"file": suspect.file} if suspect.file else {}),
        "given": _name(classes, suspect.given_label),
        "proposed": None if proposed is None else _name(classes, proposed),
        "score": suspect.score,
        "group": suspect.group,
        "decision": f"relabel to {_name(classes, decision)}" if isinstance(decision, int) else decision,
    }


def _name(classes: Sequence[str], label: int) -> str:
    """Return a class's name, or its number if it has none: files may have been changed by hand."""
    return classes[label] if label < len(classes) else str(label)
