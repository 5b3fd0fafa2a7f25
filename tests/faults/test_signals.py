"""A driver that is killed, cancelled, or loses its terminal: the store stays whole and no work is done twice."""

from __future__ import annotations

import os
import pty
import signal
import time
from collections.abc import Callable
from pathlib import Path

from safedl import events
from safedl.pipeline import driver as preparing
from safedl.pipeline.lab import Lab
from safedl.plan import Plan
from safedl.progress import Progress
from safedl.workspace import Workspace
from tests.faults import harness


def statuses(workspace: Workspace) -> set[str]:
    return {status for (status,) in harness.rows(workspace.db, "SELECT status FROM run")}


def one_more(workspace: Workspace) -> Callable[[], bool]:
    """Return the moment when one more stage than now has been completed."""
    goal = harness.finished(workspace) + 1
    return lambda: harness.finished(workspace) >= goal


def agree(workspace: Workspace, undisturbed: Workspace) -> None:
    """Fail unless the store is whole and everything came out as in the undisturbed experiment, each stage once."""
    assert harness.integrity(workspace.db) == []
    assert harness.open_rows(workspace.db) == []
    assert harness.repeated(workspace) == []
    assert harness.documents(workspace) == harness.documents(undisturbed)
    assert harness.file_hashes(workspace) == harness.file_hashes(undisturbed)


def test_killed_twice_and_resumed_it_ends_the_same(workspace: Workspace, undisturbed: Workspace) -> None:
    made: dict[tuple[str, str], float] = {}
    for _ in range(2):
        code = harness.run_and_disturb(workspace, one_more(workspace), 0.02)
        assert code == -signal.SIGKILL
        assert harness.integrity(workspace.db) == []
        assert harness.open_rows(workspace.db) != []
        assert harness.run(workspace.root, "runs", "ls") == 0  # whoever comes next notices
        assert harness.open_rows(workspace.db) == []
        made |= harness.artifacts(workspace)
    harness.resume(workspace)
    agree(workspace, undisturbed)
    assert harness.artifacts(workspace).items() >= made.items()  # what was trained is used, not trained again
    assert not list((workspace.cache / "tmp").iterdir())


def test_cancelled_and_then_left_at_once_it_can_go_on(workspace: Workspace, undisturbed: Workspace) -> None:
    assert harness.run_and_disturb(workspace, one_more(workspace), 0.0, (signal.SIGTERM,)) == 130
    assert statuses(workspace) <= {"completed", "cancelled"}
    twice = (signal.SIGINT, signal.SIGINT)
    assert harness.run_and_disturb(workspace, one_more(workspace), 0.0, twice) == 130
    harness.resume(workspace)
    agree(workspace, undisturbed)


def test_a_driver_outlives_its_terminal(workspace: Workspace, undisturbed: Workspace) -> None:
    here, there = pty.openpty()
    driver = harness.Driver(workspace.root, "run", "small", output=_path(there))
    os.close(there)
    while driver.alive() and not harness.finished(workspace):
        time.sleep(0.01)
    os.close(here)  # what is printed now fails, and the session gets SIGHUP
    assert driver.wait() == 0
    agree(workspace, undisturbed)
    (uid,) = workspace.experiments()
    assert list(events.read(workspace.experiment_folder(uid) / "events.jsonl"))[-1]["status"] == "completed"


def prepare_until_nobody_reads() -> None:
    """Let the preparation of a driver last until its terminal has gone, and say something then."""
    check = preparing.check_against_data

    def slowly(lab: Lab, plan: Plan, progress: Progress) -> None:
        progress.step("reading", 0, 2)
        while os.isatty(2):  # neither a terminal that is gone nor what took its place is one
            time.sleep(0.05)
        progress.log("it took its time")
        progress.step("reading", 1, 2)
        check(lab, plan, progress)

    preparing.check_against_data = slowly


def test_a_driver_outlives_its_terminal_before_it_begins(workspace: Workspace, undisturbed: Workspace) -> None:
    here, there = pty.openpty()
    driver = harness.Driver(workspace.root, "run", "small", output=_path(there), before=prepare_until_nobody_reads)
    os.read(here, 1)  # the bar
    os.close(there)
    os.close(here)
    assert driver.wait() == 0
    agree(workspace, undisturbed)


def test_a_driver_outlives_who_reads_its_output(workspace: Workspace, undisturbed: Workspace) -> None:
    pipe = workspace.root.parent / "pipe"
    os.mkfifo(pipe)
    driver = harness.Driver(workspace.root, "run", "small", "--json", output=pipe)
    with pipe.open("rb") as reader:
        assert b'"event"' in reader.readline()
    assert driver.wait() == 0
    agree(workspace, undisturbed)


def _path(descriptor: int) -> Path:
    return Path(os.ttyname(descriptor))
