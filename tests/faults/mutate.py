"""Broken profiles: texts made from good ones by small damages, and a watch for anything that writes."""

from __future__ import annotations

import os
import random
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path
from typing import ParamSpec, TypeVar

from safedl.errors import SafedlError
from safedl.plan import expand
from safedl.profile.load import parse
from safedl.profile.save import dump, resolved

P = ParamSpec("P")
T = TypeVar("T")
REPOSITORY = Path(__file__).resolve().parents[2]
JUNK = (
    "", " ", "  ", "\t", "\n", "\n\n", ":", ": ", "- ", "-", "?", "[", "]", "{", "}", "&a ", "*a", "<<: *a", "!!", "!",
    "!!python/object/apply:os.system ['touch exploded']", "!!binary aGk=", "!!set", "!!timestamp 2026-01-01", "|", ">",
    "'", '"', "#", "%YAML 9.9\n", "---\n", "...\n", "\x00", "\x1b[2J", "\u2028", "\ufeff", "\ud800", "é" * 300, "~",
    "null", "true", "no", "0", "-1", "1e400", "-.inf", ".nan", "0x_", "0o8", "1_000", "10" * 40, "1:30", "../../x",
    "/etc/passwd", "a" * 5000, "[" * 60, "{a: " * 60, "[red]x[/]", "<script>", "`|*_", "static_patch",
    "num_clusters: 2",
)  # fmt: skip


def profiles() -> list[str]:
    """Return the texts of the shipped profiles, and of those the tests have."""
    folders = (REPOSITORY / "profiles", REPOSITORY / "tests" / "data_profiles")
    return [path.read_text() for folder in folders for path in sorted(folder.glob("*.yaml"))]


def mutated(seed: int, count: int) -> Iterator[str]:
    """Yield `count` texts, each a profile with one to three damages."""
    rng = random.Random(seed)
    texts = profiles()
    for _ in range(count):
        text = rng.choice(texts)
        for _ in range(rng.randint(1, 3)):
            text = _damage(text, texts, rng)
        yield text


def _damage(text: str, texts: Sequence[str], rng: random.Random) -> str:
    lines = text.split("\n")
    line, at = rng.randrange(len(lines)), rng.randrange(len(text) + 1)
    match rng.randrange(9):
        case 0:  # lose some characters
            return text[:at] + text[at + rng.randint(1, 12) :]
        case 1:  # find junk in the middle
            return text[:at] + rng.choice(JUNK) + text[at:]
        case 2:  # another value for a key
            key, sign, _ = lines[line].partition(":")
            lines[line] = f"{key}{sign} {rng.choice(JUNK)}"
        case 3:  # lose a line
            del lines[line]
        case 4:  # say a line twice
            lines.insert(rng.randrange(len(lines) + 1), lines[line])
        case 5:  # indent differently
            lines[line] = " " * rng.randrange(9) + lines[line].lstrip()
        case 6:  # break off
            return text[:at]
        case 7:  # go on with another profile
            other = rng.choice(texts).split("\n")
            lines[line:] = other[rng.randrange(len(other)) :]
        case 8:  # flip a character
            return text[:at] + chr(rng.randrange(1, 0x250)) + text[at + 1 :]
    return "\n".join(lines)


def use(text: str) -> bool:
    """Do with a profile what comes before anything runs. Return False for one that is refused in plain words."""
    try:
        profile = parse(text)
        assert dump(resolved(profile))
        if not profile.missing:
            expand(profile)
    except SafedlError as error:
        assert str(error).strip()
        assert len(str(error)) < 30_000
        return False
    return True


_WRITING = (
    "os.mkdir",
    "os.rename",
    "os.remove",
    "os.system",
    "subprocess.Popen",
    "socket.connect",
    "os.exec",
    "os.fork",
)
_watchers: list[tuple[int, list[str]]] = []
"""The thread that each one watches, and what it saw."""


def _hook(event: str, arguments: tuple[object, ...]) -> None:
    """Tell all watchers of what changes something; an audit hook stays for good, so it asks whether anyone watches."""
    if not _watchers:
        return
    writes = event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
    if writes or event in _WRITING:
        for thread, seen in _watchers:
            if thread == threading.get_ident():
                seen.append(f"{event} {arguments[0]}")


@contextmanager
def watched() -> Iterator[list[str]]:
    """Collect what writes a file, starts a process or opens a connection meanwhile, in this thread.

    What is loaded for the first time may write its bytecode: use what is watched once before. Where threads are started
    later, watch in a process `apart`.
    """
    if not hasattr(_hook, "installed"):
        sys.addaudithook(_hook)
        _hook.installed = True  # type: ignore[attr-defined]
    seen: list[str] = []
    watcher = (threading.get_ident(), seen)
    _watchers.append(watcher)
    try:
        yield seen
    finally:
        _watchers.remove(watcher)


def apart(watching: Callable[P, T], *arguments: P.args, **named: P.kwargs) -> T:
    """Return what a function returns in a process of its own, and the audit hook of `watched` goes with that.

    While there is one, below Python 3.12, of two threads that start at once under coverage one may not run at all.
    """
    with ProcessPoolExecutor(1, get_context("forkserver")) as process:
        return process.submit(watching, *arguments, **named).result()
