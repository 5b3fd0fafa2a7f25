"""Data on stdout, everything else on stderr; plain where there is no terminal."""

from __future__ import annotations

import csv
import json
import os
import select
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout, suppress
from typing import Any, TextIO

from safedl.errors import SafedlError, surroundings
from safedl.events import finite, harmless
from safedl.text import printable


def note(text: str) -> None:
    """Say something to the person, on stderr."""
    print(printable(text), file=sys.stderr)


@contextmanager
def data_only() -> Iterator[TextIO]:
    """Keep stdout, which is yielded, for data: what a user's module prints goes to stderr meanwhile."""
    stdout = sys.stdout
    with redirect_stdout(sys.stderr):
        yield stdout


def explain(error: BaseException) -> int:
    """Say in one line what went wrong and return the exit code for it; SAFEDL_DEBUG raises what nobody expected."""
    if isinstance(error, SafedlError):
        note(f"error: {error}")
        return error.exit_code
    if isinstance(error, KeyboardInterrupt):
        return 130
    if text := surroundings(error):
        note(f"error: {text}")
        return SafedlError.exit_code
    if os.environ.get("SAFEDL_DEBUG"):
        raise error
    note(f"internal error: {type(error).__name__}: {error} (SAFEDL_DEBUG=1 shows where)")
    return 1


def drop_lost_output() -> None:
    """Let what is printed go nowhere from now on, where its reader has gone: a closed pipe, a lost terminal."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in filter(None, (sys.stdout, sys.stderr, sys.__stdout__)):  # the last one while `data_only` hides it
        with suppress(OSError, ValueError):  # a stream without a descriptor has no reader to lose
            watch = select.poll()
            watch.register(stream.fileno(), 0)  # a lost reader is told even if nothing is asked for
            if watch.poll(0):
                os.dup2(nowhere, stream.fileno())
    os.close(nowhere)


def print_json(value: Any) -> None:
    """Print one JSON document on stdout; NaN becomes null."""
    print(harmless(json.dumps(finite(value), indent=2, ensure_ascii=False, default=str)))


def print_rows(
    rows: Sequence[Mapping[str, Any]],
    *,
    as_json: bool = False,
    as_csv: bool = False,
    title: str = "",
    spare: Sequence[str] = (),
    ways: str = "",
) -> None:
    """Print rows that share their keys as a table, as a JSON array of objects, or as CSV.

    `spare`: the columns that a terminal too narrow for the table goes without, the least interesting first; `ways`: the
    command's options that print all of them whatever the terminal.
    """
    if as_json:
        print_json(list(rows))
    elif as_csv:
        writer = csv.writer(sys.stdout, lineterminator="\n")
        if rows:
            writer.writerow(rows[0])
        writer.writerows([["" if v is None else _csv(v) for v in row.values()] for row in rows])
    elif rows:
        from safedl.cli.table import print_table  # loads rich

        if told := print_table(rows, title, spare):
            note(f"{told}; for all in one table: {f'{ways}, or ' if ways else ''}a wider terminal")


def _csv(value: Any) -> Any:
    """Return a value as CSV has it: programs get texts as they are, a terminal nothing that it would obey."""
    return printable(value) if isinstance(value, str) and sys.stdout.isatty() else value
