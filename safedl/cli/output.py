"""Data on stdout, everything else on stderr; plain where there is no terminal."""

from __future__ import annotations

import csv
import errno
import io
import json
import os
import select
import signal
import sys
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout, suppress
from types import FrameType
from typing import Any, TextIO

from safedl.errors import SafedlError, UsageError, surroundings
from safedl.events import finite, harmless
from safedl.text import printable

UNKNOWN_WIDTH = 80
"""Columns of a terminal that says it has none, as consoles on a serial line and those of containers may."""


def note(text: str, hang: int = 0) -> None:
    """Say something to the person, on stderr; for `hang` see `print_prose`."""
    print(_wrapped(printable(text), sys.stderr, hang), file=sys.stderr)


def print_prose(text: str, hang: int = 2) -> None:
    """Print sentences on stdout; further lines of a paragraph are set in by `hang` more than its first."""
    print(_wrapped(printable(text), sys.stdout, hang), flush=True)


def _wrapped(text: str, stream: TextIO, hang: int) -> str:
    """Return text broken between words where a terminal would break within them; files get it as it is."""
    if not stream.isatty():
        return text
    columns = os.environ.get("COLUMNS", "")
    try:
        width = int(columns) if columns.isdecimal() else 0
        width = width or os.get_terminal_size(stream.fileno()).columns or UNKNOWN_WIDTH
    except (OSError, ValueError):
        return text
    lines = []
    for line in text.split("\n"):
        margin = " " * min(len(line) - len(line.lstrip()) + hang, width // 2)
        wrap = textwrap.TextWrapper(
            width, subsequent_indent=margin, break_long_words=False, break_on_hyphens=False, tabsize=4
        )
        lines += (wrap.wrap(line) or [""]) if len(line) > width else [line]
    return "\n".join(lines)


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
        # A name that is too long was given by whoever called, and is no fault of the machine.
        given = isinstance(error, OSError) and error.errno == errno.ENAMETOOLONG
        return UsageError.exit_code if given else SafedlError.exit_code
    if os.environ.get("SAFEDL_DEBUG"):
        raise error
    note(f"internal error: {type(error).__name__}: {error} (SAFEDL_DEBUG=1 shows where)")
    return 1


@contextmanager
def noticing_interrupts() -> Iterator[list[int]]:
    """Yield what ctrl-c adds to: where it falls into compiled code, that may raise an error of its own in its place."""
    pressed: list[int] = []
    before = signal.getsignal(signal.SIGINT)

    def interrupt(number: int, frame: FrameType | None) -> None:
        pressed.append(number)
        signal.default_int_handler(number, frame)

    if before is signal.default_int_handler:  # else it is ignored, as in the background of a script
        signal.signal(signal.SIGINT, interrupt)
    try:
        yield pressed
    finally:
        signal.signal(signal.SIGINT, before)


def ready() -> None:
    """Let output that was closed go nowhere, and what its encoding lacks be replaced: neither is an error."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # as `>&-` leaves it
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: PTH123, SIM115 - for the process's life
    if isinstance(sys.stdout, io.TextIOWrapper):
        with suppress(OSError):  # where another file lies below it by now, as in a forked process
            sys.stdout.reconfigure(errors="surrogateescape" if _is_utf8(sys.stdout) else "replace")  # names as on disk


def _is_utf8(stream: TextIO) -> bool:
    return str(stream.encoding).lower().replace("-", "") == "utf8"


@contextmanager
def even_unread() -> Iterator[None]:
    """Let a lost terminal or a closed pipe stop nothing: what is printed goes nowhere from then on."""
    try:
        yield
    except OSError:
        drop_lost_output()


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
    """Print one JSON document on stdout; NaN becomes null, and what stdout cannot encode an escape."""
    plain = not _is_utf8(sys.stdout)
    print(harmless(json.dumps(finite(value), indent=2, ensure_ascii=plain, default=str)))


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
