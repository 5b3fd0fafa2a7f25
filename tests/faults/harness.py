"""Drivers as processes of their own, to be disturbed; and what must hold of the workspace afterwards.

A driver here is a fork of a process that has loaded torch already: it is the same program, and starts at once.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import signal
import sqlite3
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

from safedl import events
from safedl.cache import ArtifactCache
from safedl.workspace import Workspace

PROFILE = """
name: small
dataset: {name: digits, subset: 60}
model: {name: cnn, params: {conv_filters: 8, hidden_size: 32}}
training: {epochs: 2, batch_size: 32, learning_rate: 0.003, precision: float32}
attack_overrides:
  data_poisoning:
    label_flipping: {flip_rate: 0.2, target_class: 1}
  backdoor:
    static_patch: {patch_size_ratio: 0.3, target_class: 2}
defense_config:
  data_poisoning:
    label_flipping: {defenses: [robust_loss]}
  backdoor:
    static_patch: {defenses: [activation_clustering]}
"""
"""Seven stages on 600 of the digits, of each kind at least one."""

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["safedl.cli", "safedl.cli.live", "safedl.pipeline.driver", "matplotlib.figure"])


class Driver:
    """`safedl` with some arguments, in a process and a session of its own."""

    def __init__(
        self, root: Path, *arguments: str, output: Path | None = None, before: Callable[[], None] | None = None
    ) -> None:
        """Start it on the workspace `root`; what it prints goes to a log beside that folder, or to `output`.

        `before` is called in the process first, and must be importable.
        """
        self.log = output or root.parent / f"{root.name}.log"
        self._process = _CONTEXT.Process(target=_main, args=(str(root), arguments, str(self.log), before))
        self._process.start()
        assert self._process.pid is not None
        self.pid = self._process.pid

    def send(self, number: int) -> None:
        """Send a signal, if it is still there."""
        if self.alive():
            os.kill(self.pid, number)

    def alive(self) -> bool:
        """Return whether it has not ended."""
        return self._process.is_alive()

    def wait(self, seconds: float = 600.0) -> int:
        """Wait for its end and return the exit code; a signal's number is negative."""
        self._process.join(seconds)
        assert self._process.exitcode is not None, f"the driver did not end: {self.said()}"
        return self._process.exitcode

    def said(self) -> str:
        """Return what drivers on this workspace have printed."""
        return self.log.read_text(errors="replace") if self.log.exists() else ""


def _main(root: str, arguments: tuple[str, ...], log: str, before: Callable[[], None] | None) -> None:
    os.setsid()  # a terminal that is opened now is this session's own: losing it sends SIGHUP
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # which may be ignored where the tests run
    target = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for descriptor in (1, 2):
        os.dup2(target, descriptor)
    os.environ.pop("SAFEDL_DB", None)
    os.environ["TERM"] = "xterm"
    sys.argv = ["safedl", "--workspace", root, *arguments]
    if before:
        before()
    from safedl.cli import main

    main()


def die_before(event: str, part: str, times: int = 1) -> None:
    """Let this process kill itself before an audit event, as `os.rename`, that concerns a path ending in `part`.

    The last of so many `times`; an ending of "" is that of every path.
    """
    seen = 0

    def hook(name: str, arguments: tuple[Any, ...]) -> None:
        nonlocal seen
        if name == event and isinstance(arguments[0], str | os.PathLike) and os.fspath(arguments[0]).endswith(part):
            seen += 1
            if seen == times:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)


def make_workspace(root: Path, profile: str = PROFILE) -> Workspace:
    """Make a workspace with a profile `small` and return it."""
    (root / "profiles").mkdir(parents=True)
    (root / "profiles" / "small.yaml").write_text(profile)
    return Workspace.open(root, root / "safedl.db")


def run(root: Path, *arguments: str) -> int:
    """Run `safedl` to its end and return the exit code."""
    return Driver(root, *arguments).wait()


def resume(workspace: Workspace) -> None:
    """Go on with the experiment to its end; fail with the reasons of what did not complete."""
    code = run(workspace.root, "resume")
    query = "SELECT stage, status, error, uid FROM run WHERE status NOT IN ('completed', 'interrupted')"
    left = rows(workspace.db, query)
    logs = {uid: list(events.read(workspace.run_folder(uid) / "events.jsonl"))[-5:] for *_, uid in left}
    assert code == 0, (left, logs)


def told(workspace: Workspace) -> int:
    """Return how many bytes of events the drivers on a workspace have written down: a clock that load does not bend."""
    return sum(path.stat().st_size for path in workspace.results.glob("experiments/*/events.jsonl"))


def finished(workspace: Workspace) -> int:
    """Return how many stages the drivers on a workspace have completed, by their events."""
    logs = workspace.results.glob("experiments/*/events.jsonl")
    return sum(item["event"] == "run" and item["status"] == "completed" for path in logs for item in events.read(path))


def run_and_disturb(
    workspace: Workspace, moment: Callable[[], bool], seconds: float = 0.0, signals: tuple[int, ...] = (signal.SIGKILL,)
) -> int:
    """Start the experiment or go on with it, and send signals, one right after the other; return the exit code.

    They are sent `seconds` after the `moment`.
    """
    driver = Driver(workspace.root, *go_on(workspace))
    while driver.alive() and not moment():
        time.sleep(0.002)
    end = time.monotonic() + seconds
    while driver.alive() and time.monotonic() < end:
        time.sleep(0.002)
    for number in signals:
        driver.send(number)
        time.sleep(0.02)
    return driver.wait()


def go_on(workspace: Workspace) -> tuple[str, ...]:
    """Return the command that starts the experiment, or resumes it if there is one."""
    return ("resume",) if workspace.experiments() else ("run", "small")


def rows(db: Path, query: str) -> list[tuple[Any, ...]]:
    """Return what a query gives."""
    with closing(sqlite3.connect(db)) as connection:
        return connection.execute(query).fetchall()


def integrity(db: Path) -> list[str]:
    """Return what SQLite and the references say against the store; nothing is good."""
    if not db.exists():
        return []
    found = [text for (text,) in rows(db, "PRAGMA integrity_check") if text != "ok"]
    return found + [f"row of {table} refers to nothing" for table, *_ in rows(db, "PRAGMA foreign_key_check")]


def open_rows(db: Path) -> list[str]:
    """Return the runs that the store calls queued or running."""
    return [uid for (uid,) in rows(db, "SELECT uid FROM open_runs")] if db.exists() else []


def documents(workspace: Workspace) -> dict[str, dict[str, Any]]:
    """Return the results of all completed runs by stage, without their times and uids."""
    found = {}
    for uid, stage in rows(workspace.db, "SELECT uid, stage FROM run WHERE status = 'completed'"):
        assert stage not in found, f"{stage} was completed twice"
        document = json.loads((workspace.run_folder(uid) / "result.json").read_text())
        for key in ("timing", "uid"):
            document.pop(key)
        found[stage] = document
    return found


def file_hashes(workspace: Workspace) -> dict[str, str]:
    """Return the sha256 of what completed runs left beside their result: weights, indices, poison, pictures."""
    found = {}
    for uid, stage in rows(workspace.db, "SELECT uid, stage FROM run WHERE status = 'completed'"):
        folder = workspace.run_folder(uid)
        for path in sorted(p for p in folder.rglob("*") if p.is_file()):
            name = path.relative_to(folder).as_posix()
            if name not in ("result.json", "config.yaml", "events.jsonl", "report.md"):
                found[f"{stage}/{name}"] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def artifacts(workspace: Workspace) -> dict[tuple[str, str], float]:
    """Return when each artifact in the cache was made, by kind and key."""
    return {(a.kind, a.key): a.created_at for a in ArtifactCache(workspace.cache).entries()}


def repeated(workspace: Workspace) -> list[str]:
    """Return the stages that were tried again after they had been completed."""
    return [
        stage
        for (stage,) in rows(
            workspace.db,
            "SELECT later.stage FROM run AS later JOIN run AS done ON done.stage_key = later.stage_key "
            "AND done.id < later.id WHERE done.status = 'completed'",
        )
    ]
