"""`safedl db`: upkeep of the store."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from safedl.cli.output import note, print_json, print_prose, print_rows
from safedl.errors import IncompleteError, StoreError, UsageError
from safedl.workspace import Workspace

app = typer.Typer(help="The store: what is in it, upgrades, checks, backups.", no_args_is_help=True)


@app.command("path")
def path(context: typer.Context) -> None:
    """Print where the store is, or would be."""
    workspace: Workspace = context.obj
    print(workspace.db)


@app.command("info")
def info(
    context: typer.Context, json: Annotated[bool, typer.Option("--json", help="Print an object.")] = False
) -> None:
    """Show the store's schema, size, journal and numbers of rows."""
    from safedl.store import connect

    workspace: Workspace = context.obj
    revision = connect.revision(workspace.db)
    facts: dict[str, Any] = {
        "path": str(workspace.db),
        "exists": revision is not None,
        "schema": revision,
        "schema of this version": connect.HEAD,
        "bytes": workspace.db.stat().st_size if revision else 0,
        "filesystem": connect.filesystem_type(workspace.db),
        "journal": connect.journal_mode(workspace.db),
    }
    if revision == connect.HEAD:
        facts |= _counts(workspace.db)
    if json:
        print_json(facts)
        return
    print_rows([{"what": key, "is": str(value)} for key, value in facts.items() if value is not None])
    if revision is None:
        note(connect.none_yet(workspace.db))


@app.command("upgrade")
def upgrade(context: typer.Context) -> None:
    """Make the store, or bring an older one up to date after a backup."""
    from safedl.store import migrate, recover

    workspace: Workspace = context.obj
    if alive := recover.living_drivers(workspace.results):
        raise StoreError(f"experiment {alive[0]} is running; upgrade when it has ended")
    saved = migrate.upgrade(workspace.db)
    if saved:
        note(f"backup: {saved}")
    note(f"{workspace.db} is up to date")


@app.command("check")
def check(context: typer.Context) -> None:
    """Look for damage, broken references, and tables or views that differ from this version's."""
    from safedl.store import migrate

    workspace: Workspace = context.obj
    problems = migrate.check(workspace.db)
    for problem in problems:
        print_prose(problem)
    if problems:
        raise IncompleteError(
            f"{workspace.db}: {len(problems)} problems; `safedl db reindex` rebuilds it from results/"
        )
    note(f"{workspace.db} is sound")


@app.command("backup")
def backup(
    context: typer.Context,
    target: Annotated[Path | None, typer.Argument(help="Where to; default: beside the store.", metavar="FILE")] = None,
) -> None:
    """Copy the store, safely even while something writes to it, and print the copy's path."""
    from safedl.store import migrate

    workspace: Workspace = context.obj
    if target is not None and target.exists():
        raise UsageError(f"{target} exists already; choose another name for the backup")
    print(migrate.backup(workspace.db, target))


@app.command("reindex")
def reindex(context: typer.Context) -> None:
    """Rebuild the store from the files under results/, which are the record."""
    from safedl.store.recover import recover
    from safedl.store.reindex import reindex as rebuild

    workspace: Workspace = context.obj
    report = rebuild(workspace.db, workspace.results)
    recover(workspace.db, workspace.results)
    for problem in report.problems:
        note(problem)
    note(f"{workspace.db}: {report.experiments} experiments, {report.runs} runs, {len(report.problems)} problems")


@app.command("rescore")
def rescore(context: typer.Context) -> None:
    """Compute the scores of all completed runs anew from their metrics, after a formula changed."""
    from safedl.store.scoring import rescore as compute

    workspace: Workspace = context.obj
    note(f"{workspace.db}: {compute(workspace.db)} runs have other scores now")


def _counts(db: Path) -> dict[str, Any]:
    from safedl.store.sql import query

    tables = ("experiment", "run", "metric", "metric_point", "event")
    counts = ", ".join(f"(SELECT count(*) FROM {name}) AS {name}s" for name in tables)
    answer = query(db, f"SELECT {counts}", timeout=60)
    states = query(db, "SELECT status, count(*) FROM run GROUP BY status ORDER BY status", timeout=60)
    return {**answer.as_dicts()[0], **{f"runs {status}": count for status, count in states.rows}}
