"""`safedl runs`: what has run or runs now, and what came out."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer

from safedl.cli.output import note, print_json, print_prose, print_rows
from safedl.errors import UsageError, nearest
from safedl.events import Event, encode
from safedl.text import printable, shown
from safedl.workspace import Workspace

if TYPE_CHECKING:
    from safedl.store.records import RunRow

app = typer.Typer(help="Runs: list, show, follow, cancel, delete.", no_args_is_help=True)

SHOWN_METRICS = ("clean_accuracy", "asr", "adversarial_accuracy", "tpr", "fpr", "seconds")
SPARE = (
    "seconds", "fpr", "tpr", "seed", "dataset", "error", "adversarial_accuracy", "kind", "clean_accuracy", "status",
)  # fmt: skip
"""Columns that a narrow terminal goes without, the least interesting first."""


@app.command("ls")
def ls(
    context: typer.Context,
    attack: Annotated[str | None, typer.Option(help="Only this attack.", metavar="NAME")] = None,
    defense: Annotated[str | None, typer.Option(help="Only this defense.", metavar="NAME")] = None,
    dataset: Annotated[str | None, typer.Option(help="Only this data set.", metavar="NAME")] = None,
    status: Annotated[
        str | None, typer.Option(help="Only this state: completed, failed, running ...", metavar="STATE")
    ] = None,
    kind: Annotated[
        str | None, typer.Option(help="Only baseline, attack, defense, bound or scan.", metavar="KIND")
    ] = None,
    experiment: Annotated[str | None, typer.Option(help="Only this experiment's runs.", metavar="UID")] = None,
    filter: Annotated[
        str, typer.Option(help="Only what this allows: 'attack:static acc>0.9 -model:cnn words'.", metavar="TEXT")
    ] = "",
    sort: Annotated[
        str, typer.Option(help="By when, a field or a metric; - in front: upwards.", metavar="FIELD")
    ] = "when",
    limit: Annotated[int, typer.Option(min=1, max=10**9, help="At most so many, the first.", metavar="N")] = 50,
    json: Annotated[bool, typer.Option("--json", help="Print an array of objects.")] = False,
    csv: Annotated[bool, typer.Option("--csv", help="Print CSV.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print uids only.")] = False,
) -> None:
    """List runs, newest first or as sorted."""
    from safedl import catalog
    from safedl.plan import PERFECT, RANDOM, StageKind
    from safedl.store import queries
    from safedl.store.records import FINAL, OPEN

    workspace: Workspace = context.obj
    attack = catalog.attack(attack).name if attack else None
    if defense and defense not in (PERFECT, RANDOM):
        catalog.defense(defense)
    _one_of("--status", status, (*OPEN, *FINAL))
    _one_of("--kind", kind, get_args(StageKind))
    _recover(workspace)
    rows = queries.runs(
        workspace.db, attack=attack, defense=defense, dataset=dataset, status=status, kind=kind,
        experiment=workspace.find_experiment(experiment) if experiment else None, limit=limit,
        filter=filter, sort=sort.removeprefix("-"), descending=not sort.startswith("-"),
    )  # fmt: skip
    if quiet:
        for row in rows:
            print(row.record.uid)
        return
    listed = [_full(row) for row in rows] if json else [_line(row) for row in rows]
    print_rows(listed, as_json=json, as_csv=csv, spare=SPARE, ways="--csv, --json")
    if not rows:
        note("no such runs")
    elif told := _not_sorted(sort.removeprefix("-"), rows):
        note(told)
    elif len(rows) == limit:
        note(f"the {'newest' if sort == 'when' else 'first'} {limit} are shown; raise --limit for more")


@app.command("show")
def show(
    context: typer.Context,
    uid: Annotated[str, typer.Argument(help="The run's uid, or a part of it that no other run has.")],
    json: Annotated[bool, typer.Option("--json", help="Print an object.")] = False,
) -> None:
    """Show a run: what it was, how it ended, its metrics, log and files."""
    from safedl.store import queries

    workspace: Workspace = context.obj
    _recover(workspace)
    row = queries.find_run(workspace.db, uid)
    record = row.record.as_dict()
    folder = workspace.run_folder(row.record.uid)
    files = sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())
    log = queries.run_log(workspace.db, row.record.uid)
    if json:
        entries = [{"at": line.at, "level": line.level, "message": line.message} for line in log]
        print_json(
            {"record": record, **_state(row), "metrics": row.metrics, "log": entries, "folder": folder, "files": files}
        )
        return
    facts = {**record, **_state(row), "folder": str(folder)}
    params = {**facts.pop("params"), **{f"version.{k}": v for k, v in facts.pop("versions").items()}}
    print_rows([{"what": k, "is": str(v)} for k, v in facts.items() if v is not None])
    print_rows([{"parameter": k, "value": str(v)} for k, v in params.items()])
    print_rows([{"metric": k, "value": v} for k, v in row.metrics.items()])
    print_rows([{"at": line.at, "message": line.message} for line in log])
    print_rows([{"file": name} for name in files])


@app.command("logs")
def logs(
    context: typer.Context,
    uid: Annotated[str, typer.Argument(help="An experiment or a run; a part of its uid will do.")],
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until it ends.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print events as JSON Lines.")] = False,
) -> None:
    """Print what a driver has said; -f follows any driver that runs, whoever started it."""
    workspace: Workspace = context.obj
    found = workspace.find(uid)
    names = workspace.stage_names(found)
    for item in workspace.follow(found) if follow else workspace.events(found):
        if json:
            print(encode(item), flush=True)
        elif line := log_line(item, names.get(item["uid"]) or item["uid"]):
            print_prose(line, hang=4)


@app.command("cancel")
def cancel(
    context: typer.Context,
    uids: Annotated[list[str], typer.Argument(help="Experiments or runs; parts of their uids will do.")],
) -> None:
    """Ask drivers to stop: a whole experiment, or one of its runs."""
    workspace: Workspace = context.obj
    for found in [workspace.find(uid) for uid in uids]:
        workspace.cancel(found)  # a driver that is only being started hears it too
        heard = any(found == uid or found in workspace.read_plan(uid)["runs"] for uid in workspace.running())
        note(f"asked {found} to stop" if heard else f"{found} is not running; a driver that only begins will stop")


@app.command("rm")
def rm(
    context: typer.Context,
    uids: Annotated[list[str], typer.Argument(help="Runs that have ended; parts of their uids will do.")],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Delete runs: their rows and their folders. Runs that others start from stay."""
    from safedl.store import queries

    workspace: Workspace = context.obj
    _recover(workspace)
    rows = [queries.find_run(workspace.db, uid) for uid in uids]
    found = list({row.record.uid: row.record for row in rows}.values())  # one may be named twice
    for record in found:
        note(f"{record.uid}  {record.stage}")
    if not yes:
        _ask(f"Delete {len(found)} run{'s' * (len(found) != 1)} for good?")
    above = {record.uid: record.parent for record in found}

    def depth(uid: str | None) -> int:
        return 1 + depth(above[uid]) if uid in above else 0

    # Those that start from others first, and earlier attempts before later ones.
    for record in sorted(found, key=lambda r: (-depth(r.uid), r.attempt)):
        workspace.delete_run(record.uid)
        note(f"deleted {record.uid}")


def _ask(question: str) -> None:
    """Go on after a yes. Raises `UsageError` where nobody can answer, as in a script."""
    try:
        agreed = typer.confirm(question, err=True)
    except typer.Abort:
        if sys.stdin.isatty():  # ctrl-c, ctrl-d
            raise
        raise UsageError("nobody to ask: standard input is no terminal; give --yes") from None
    if not agreed:
        raise typer.Abort


def log_line(item: Event, name: str) -> str | None:
    """Return an event about the stage `name` as one line for people, or None for those that only move bars."""
    match item["event"]:
        case "run" | "experiment":
            text = item["status"] + (f": {item['error']}" if item.get("error") else "")
        case "log":
            text = item["message"]
        case "metric":
            text = f"{item['name']} {shown(item['value'])} at {item['step']}"
        case "result":
            text = "  ".join(f"{k} {shown(v)}" for k, v in item["metrics"].items() if "." not in k)
        case _:
            return None
    return printable(f"{item['at'][11:19]} {name}: {text}").replace("\n", "\n    ")


def _recover(workspace: Workspace) -> None:
    """Notice drivers that died, so that nothing is listed as running for ever."""
    from safedl.store.recover import recover

    for uid in recover(workspace.db, workspace.results):
        note(f"run {uid} was left unfinished by its driver: it is interrupted now")


def _one_of(option: str, value: str | None, allowed: tuple[str, ...]) -> None:
    if value is not None and value not in allowed:
        raise UsageError(f"{option} {value}: allowed are {', '.join(allowed)}.{nearest(value, allowed)}")


def _not_sorted(name: str, rows: Sequence[RunRow]) -> str:
    """Return what to say where the order is by a metric that none of the runs has, or nothing."""
    from safedl.store.filters import FIELD_NAMES, FIELDS, METRICS

    metrics = {metric for row in rows for metric, value in row.metrics.items() if value is not None}
    if name == "when" or FIELD_NAMES.get(name, name) in FIELDS or METRICS.get(name, name) in metrics:
        return ""
    return (
        f"none of these runs has a metric '{name}': they are not sorted.{nearest(name, {*FIELDS, *METRICS, *metrics})}"
    )


def _state(row: RunRow) -> dict[str, Any]:
    return {
        "status": row.status,
        "error": row.error,
        "progress": row.progress,
        "started_at": row.started_at,
        "finished_at": row.finished_at,
    }


def _full(row: RunRow) -> dict[str, Any]:
    return {**row.record.as_dict(), **_state(row), "metrics": dict(row.metrics)}


def _line(row: RunRow) -> dict[str, Any]:
    record = row.record
    facts = {
        "uid": record.uid, "kind": record.kind, "dataset": record.dataset, "attack": record.attack,
        "defense": record.defense, "seed": record.seed, "status": row.status,
    }  # fmt: skip
    return {**facts, **{name: row.metrics.get(name) for name in SHOWN_METRICS}, "error": row.error}
