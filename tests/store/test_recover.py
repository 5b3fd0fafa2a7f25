from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from filelock import FileLock

from safedl import events
from safedl.events import event
from safedl.store import queries
from safedl.store.recover import living_drivers, recover
from safedl.store.reindex import reindex
from tests.store import samples
from tests.store.samples import Workplace

DRIVER = """
import sys, time
from pathlib import Path
from filelock import FileLock
lock = FileLock(Path(sys.argv[1]) / "driver.lock")
lock.acquire()
print("ready", flush=True)
time.sleep(600)
"""


def statuses(work: Workplace) -> dict[str, str]:
    return {row.record.uid: row.status for row in queries.runs(work.db)}


def begin(work: Workplace) -> None:
    """One run was completed but not stored, one is at work, three wait."""
    work.begin(samples.experiment(), samples.tree())
    sent = samples.finished("base", {"clean_accuracy": 0.9})
    work.apply(sent[:2])
    work.apply(sent[2:], store=False)
    work.apply([event("run", "attack", status="running")])


def test_a_killed_driver_leaves_interrupted_runs(work: Workplace) -> None:
    begin(work)
    folder = work.results / "experiments" / "e1"
    driver = subprocess.Popen([sys.executable, "-c", DRIVER, str(folder)], stdout=subprocess.PIPE)
    assert driver.stdout is not None
    driver.stdout.readline()
    assert living_drivers(work.results) == ["e1"]
    assert recover(work.db, work.results) == []
    assert statuses(work)["attack"] == "running"
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    driver.stdout.close()
    assert living_drivers(work.results) == []
    assert sorted(recover(work.db, work.results)) == ["attack", "clean", "perfect", "random"]
    assert statuses(work) == {"base": "completed"} | dict.fromkeys(
        ("attack", "clean", "perfect", "random"), "interrupted"
    )
    row = queries.find_run(work.db, "attack")
    assert row.error
    assert queries.find_run(work.db, "base").metrics == {"clean_accuracy": 0.9}
    assert recover(work.db, work.results) == []


def test_the_files_say_it_too(work: Workplace) -> None:
    begin(work)
    torn = work.results / "runs" / "attack" / "events.jsonl"
    with torn.open("a") as file:
        file.write('{"event": "progress", "uid": "att')
    recover(work.db, work.results)
    last = list(events.read(torn))[-1]
    assert (last["event"], last["uid"], last["status"]) == ("run", "attack", "interrupted")
    told = list(events.read(work.results / "experiments" / "e1" / "events.jsonl"))
    assert {item["uid"]: item["status"] for item in told} == dict.fromkeys(
        ("attack", "clean", "perfect", "random"), "interrupted"
    )
    before = queries.runs(work.db)
    work.recorder.close()
    assert reindex(work.db, work.results).problems == ()
    assert {r.record.uid: r for r in queries.runs(work.db)} == {r.record.uid: r for r in before}


@pytest.mark.parametrize(
    "line", ['{"event": "run", "uid": "attack"}', '{"event": "result", "uid": "attack", "metrics": 3}']
)
def test_a_run_whose_events_are_damaged_is_interrupted_like_others(work: Workplace, line: str) -> None:
    begin(work)
    with (work.results / "runs" / "attack" / "events.jsonl").open("a") as file:
        file.write(f"{line}\n")
    assert "attack" in recover(work.db, work.results)
    assert statuses(work)["base"] == "completed" and statuses(work)["attack"] == "interrupted"


def test_whoever_resumes_recovers_its_own_experiment(work: Workplace) -> None:
    begin(work)
    with FileLock(work.results / "experiments" / "e1" / "driver.lock"):
        assert recover(work.db, work.results) == []
        assert len(recover(work.db, work.results, holding="e1")) == 4


def test_runs_whose_files_are_gone_are_given_up_with_their_process(work: Workplace) -> None:
    driver = subprocess.Popen([sys.executable, "-c", ""])
    driver.wait()
    here = {"host": socket.gethostname(), "pid": driver.pid}
    gone = [samples.run("r1", **here), samples.run("r2", experiment=None, **here)]
    work.recorder.begin(samples.experiment(), gone)
    assert sorted(recover(work.db, work.results)) == ["r1", "r2"]
    assert not work.results.exists()


def test_a_run_of_another_machine_is_not_judged_by_its_process(work: Workplace) -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    far = samples.run("far", host=f"not-{socket.gethostname()}", pid=gone.pid)
    work.recorder.begin(samples.experiment(), [far])
    assert recover(work.db, work.results) == []


def test_a_run_of_another_workspace_in_the_same_store_goes_on(work: Workplace, tmp_path: Path) -> None:
    begin(work)
    elsewhere = tmp_path / "another" / "results"
    with FileLock(work.results / "experiments" / "e1" / "driver.lock"):
        assert recover(work.db, elsewhere) == []
    assert statuses(work)["attack"] == "running"
    living = samples.run("here", experiment="e2", stage_key="k2", host=socket.gethostname(), pid=os.getpid())
    work.recorder.begin(samples.experiment("e2"), [living])
    assert recover(work.db, elsewhere) == []


def test_no_store_no_work(tmp_path: Path) -> None:
    assert recover(tmp_path / "safedl.db", tmp_path / "results") == []
    assert list(tmp_path.iterdir()) == []
