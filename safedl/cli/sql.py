"""`safedl sql`: ask the store anything, in SQL, or by a query that comes with Safe-DL."""

from __future__ import annotations

import csv as csv_format
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import typer

from safedl.cli.output import note, print_rows
from safedl.errors import UsageError
from safedl.workspace import Workspace


class CommentedQuery(typer.core.TyperCommand):
    """Takes a statement that begins with a comment for what it is: `-- which` is no option."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Set such a statement in by a space, which SQL does not mind."""
        return super().parse_args(ctx, [f" {a}" if a[:2] == "--" and a[2:3].isspace() else a for a in args])


def sql(
    context: typer.Context,
    query: Annotated[str | None, typer.Argument(help="One reading statement; - reads it from standard input.")] = None,
    named: Annotated[str | None, typer.Option(help="Ask a query that comes with Safe-DL.", metavar="NAME")] = None,
    list_named: Annotated[bool, typer.Option("--list", help="List the queries that come with Safe-DL.")] = False,
    parameter: Annotated[
        list[str] | None, typer.Option("--parameter", "-p", help="A parameter (repeatable).", metavar="NAME=VALUE")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print an array of objects.")] = False,
    csv: Annotated[bool, typer.Option("--csv", help="Print CSV.")] = False,
    limit: Annotated[int, typer.Option(min=1, help="At most so many rows.", metavar="N")] = 1000,
    timeout: Annotated[float, typer.Option(min=0.01, help="At most so many seconds.", metavar="SECONDS")] = 5.0,
) -> None:
    """Query the store: tables and views like defense_results, leaderboard, run_metrics, run_param. Reads only."""
    from safedl.store.sql import query as ask

    workspace: Workspace = context.obj
    if (query is not None) + (named is not None) + list_named != 1:
        raise UsageError("give one of: a statement, --named NAME, --list")
    if list_named:
        _list(json, csv)
        return
    text, parameters = _asked(query, named, parameter or [])
    with _interruptible() as interrupted:
        answer = ask(workspace.db, text, parameters, limit=limit, timeout=timeout, stopped=interrupted)
    if csv and not json and not answer.rows:
        csv_format.writer(sys.stdout, lineterminator="\n").writerow(answer.columns)
    print_rows(answer.as_dicts(), as_json=json, as_csv=csv, ways="--csv, --json")
    if answer.truncated:
        shown = len(answer.rows)
        more = "raise --limit for more" if shown == limit else "the values of the others are too large"
        note(f"truncated: only the first {shown} rows are shown; {more}")
    elif not answer.rows:
        note("no rows")


@contextmanager
def _interruptible() -> Iterator[Callable[[], bool]]:
    """Yield what tells whether ctrl-c was pressed, and raise `KeyboardInterrupt` at the end if it was.

    Raised while SQLite computes, it would be lost: SQLite ends the query as it does one that takes too long.
    """
    pressed: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, _: pressed.append(number))
    try:
        yield lambda: bool(pressed)
    except UsageError:
        if not pressed:
            raise
    finally:
        signal.signal(signal.SIGINT, before)
    if pressed:
        raise KeyboardInterrupt


def _list(json: bool, csv: bool) -> None:
    from safedl.store.named import named_queries

    rows = []
    for q in named_queries().values():
        row: dict[str, Any] = {"name": q.name, "title": q.title}
        optional = [p for p in q.parameters if p not in q.required]
        row |= {"needs": list(q.required), "takes": optional} if json else {
            "needs": ", ".join(q.required), "takes": ", ".join(optional)
        }  # fmt: skip
        rows.append(row | ({"sql": q.sql} if json else {}))
    print_rows(rows, as_json=json, as_csv=csv, ways="--csv, --json")


def _asked(query: str | None, named: str | None, parameters: list[str]) -> tuple[str, dict[str, Any]]:
    """Return the statement to execute, and its parameters by name."""
    from safedl.store.named import named_query, value

    given = {}
    for item in parameters:
        name, sign, content = item.partition("=")
        if not sign:
            raise UsageError(f"-p {item}: write NAME=VALUE")
        given[name] = content
    if named is not None:
        found = named_query(named)
        return found.sql, found.bind(given)
    return sys.stdin.read() if query == "-" else query or "", {name: value(v) for name, v in given.items()}
