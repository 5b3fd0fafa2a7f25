"""Narrowing, sorting, deleting and following runs."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path

import pytest
from filelock import FileLock

from safedl.errors import UsageError
from safedl.events import encode, event
from safedl.liveness import LOCK
from safedl.workspace import Workspace
from tests.cli.conftest import Safedl
from tests.store.samples import Workplace, experiment, finished, tree


@pytest.fixture
def work(tmp_path: Path) -> None:
    """An experiment that has ended."""
    workplace = Workplace(tmp_path)
    workplace.begin(experiment(), tree())
    for uid, accuracy in (("base", 0.99), ("attack", 0.98), ("clean", 0.97), ("perfect", 0.96)):
        workplace.apply(finished(uid, {"clean_accuracy": accuracy}))
    workplace.apply(finished("random", {}, "failed", "it broke"))
    workplace.recorder.close()


@pytest.mark.usefixtures("work")
def test_ls_takes_the_filter_language_and_an_order(safedl: Safedl) -> None:
    assert safedl("runs", "ls", "-q", "--filter", "attack:static acc<0.98").out.split() == ["perfect", "clean"]
    assert safedl("runs", "ls", "-q", "--sort", "acc").out.split() == ["base", "attack", "clean", "perfect", "random"]
    assert safedl("runs", "ls", "-q", "--sort", "-acc", "--limit", "2").out.split() == ["perfect", "clean"]
    wrong = safedl("runs", "ls", "--filter", "atack:x")
    assert wrong.code == 2
    assert "Did you mean 'attack'" in wrong.err


@pytest.mark.usefixtures("work")
def test_ls_says_which_runs_are_shown_and_what_is_not_sorted(safedl: Safedl) -> None:
    assert "the newest 2 are shown" in safedl("runs", "ls", "--limit", "2").err
    assert "the first 2 are shown" in safedl("runs", "ls", "--limit", "2", "--sort", "acc").err
    misspelt = safedl("runs", "ls", "--sort", "-clean_acuracy")
    assert misspelt.code == 0
    assert "none of these runs has a metric 'clean_acuracy': they are not sorted. Did you mean 'clean_accuracy'?" in (
        misspelt.err
    )
    assert "sorted" not in safedl("runs", "ls", "--sort", "state").err + safedl("runs", "ls", "--sort", "acc").err


@pytest.mark.usefixtures("work")
def test_cancel_says_whether_anything_runs(safedl: Safedl, tmp_path: Path) -> None:
    lock = follow(tmp_path, "e2", "started").with_name(LOCK)
    with FileLock(lock):
        (tmp_path / "results" / "runs" / "r1").mkdir()
        for uid in ("e2", "r1"):
            assert safedl("runs", "cancel", uid).err == f"asked {uid} to stop\n"
    assert "e2 is not running" in safedl("runs", "cancel", "e2").err
    assert "clean is not running" in safedl("runs", "cancel", "clean").err


def test_the_log_of_a_run_that_was_tried_again_is_printed(safedl: Safedl, tmp_path: Path) -> None:
    folder = tmp_path / "results" / "runs" / "r1"
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text("stage: baseline@0\n")  # the plan names the later attempt alone
    (folder / "events.jsonl").write_text(encode(event("run", "r1", status="failed", error="no memory")) + "\n")
    for words in (("r1",), ("r1", "-f")):
        answer = safedl("runs", "logs", *words)
        assert answer.code == 0 and "baseline@0: failed: no memory" in answer.out


@pytest.mark.parametrize("plan", ["", "[]", "7", "{}"])
def test_the_log_of_a_run_is_printed_though_the_plan_of_another_experiment_is_damaged(
    safedl: Safedl, tmp_path: Path, plan: str
) -> None:
    damaged = tmp_path / "results" / "experiments" / "20990101-000000-aaaaaa" / "plan.json"
    damaged.parent.mkdir(parents=True)
    damaged.write_text(plan)
    run = tmp_path / "results" / "runs" / "r1"
    run.mkdir(parents=True)
    (run / "events.jsonl").write_text(encode(event("run", "r1", status="completed")) + "\n")
    answer = safedl("runs", "logs", "r1")
    assert answer.code == 0 and "completed" in answer.out, answer.err
    refused = safedl("runs", "logs", "20990101")
    assert refused.code == 4 and f"{damaged} cannot be read" in refused.err


@pytest.mark.usefixtures("work")
def test_a_name_that_fits_none_or_several_is_refused_with_what_there_is(safedl: Safedl, tmp_path: Path) -> None:
    none = safedl("export", "nope", "--data", "out.npz")
    assert none.code == 4 and "no experiment or run is named 'nope'; see: safedl runs ls" in none.err
    follow(tmp_path, "e2", "started")
    several = safedl("runs", "logs", "a")
    assert several.code == 4 and "'a' names 4 experiments or runs; give more of the uid: attack, base" in several.err
    assert "no experiment is named 'e3'; the last one is e2" in safedl("runs", "ls", "--experiment", "e3").err
    assert "'e' names 2 experiments; give more of the uid: e1, e2" in safedl("resume", "e").err


@pytest.mark.usefixtures("work")
def test_compare_without_any_defense_takes_the_newest_run(safedl: Safedl) -> None:
    assert "digits / cnn, as in the newest defense" in safedl("compare").err
    assert safedl("runs", "rm", "--yes", "random", "perfect", "clean").code == 0
    assert "digits / cnn, as in the newest run" in safedl("compare").err


def test_the_help_of_runs_names_all_that_it_does(safedl: Safedl) -> None:
    assert "list, show, follow, cancel, delete" in safedl("runs", "--help").out


@pytest.mark.usefixtures("work")
def test_rm_asks_and_deletes_nothing_without_a_yes(
    safedl: Safedl, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("n\n"))
    answer = safedl("runs", "rm", "random")
    assert answer.code == 130
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    answer = safedl("runs", "rm", "random")
    assert answer.code == 2 and "nobody to ask" in answer.err and "--yes" in answer.err
    assert (tmp_path / "results" / "runs" / "random").exists()


@pytest.mark.usefixtures("work")
def test_rm_deletes_children_before_their_parents(safedl: Safedl, tmp_path: Path) -> None:
    answer = safedl("runs", "rm", "--yes", "random", "perfect", "clean", "clea")
    assert answer.code == 0, answer.err
    assert answer.err.count("deleted clean") == 1
    left = [run["uid"] for run in json.loads(safedl("runs", "ls", "--json").out)]
    assert left == ["attack", "base"]
    assert sorted(p.name for p in (tmp_path / "results" / "runs").iterdir()) == ["attack", "base"]
    refused = safedl("runs", "rm", "--yes", "base")
    assert refused.code == 2
    assert "1 runs start from it" in refused.err
    assert safedl("runs", "rm", "--yes", "nothing").code == 4


@pytest.mark.usefixtures("work")
def test_rm_of_a_whole_family_deletes_all_of_it(safedl: Safedl, tmp_path: Path) -> None:
    answer = safedl("runs", "rm", "--yes", "attack", "base", "clean", "perfect", "random")
    assert answer.code == 0, answer.err
    assert not list((tmp_path / "results" / "runs").iterdir())


@pytest.mark.usefixtures("work")
def test_rm_says_which_folder_it_could_not_delete(
    safedl: Safedl, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.rmdir", lambda *_args, **_more: os.close(-1))  # as where rights are missing
    answer = safedl("runs", "rm", "--yes", "random")
    assert answer.code == 1 and "deleted random" not in answer.err
    assert str(tmp_path / "results" / "runs" / ".random.removed") in answer.err and "could not be deleted" in answer.err


def follow(root: Path, uid: str, *statuses: str) -> Path:
    """Return the file of an experiment's events that say how it went so far."""
    folder = Workspace.open(root).experiment_folder(uid)
    folder.mkdir(parents=True)
    (folder / "plan.json").write_text(json.dumps({"stages": {"baseline@0": "r1"}, "runs": ["r1"]}))
    path = folder / "events.jsonl"
    path.write_text("".join(encode(event("experiment", uid, status=status)) + "\n" for status in statuses))
    return path


def test_a_resumed_experiment_is_followed_beyond_its_earlier_end(tmp_path: Path) -> None:
    path = follow(tmp_path, "e1", "started", "incomplete", "started")
    workspace, lock = Workspace.open(tmp_path), FileLock(path.with_name(LOCK))
    lock.acquire()
    said = workspace.follow("e1", interval=0.01)
    assert [next(said)["status"] for _ in range(3)] == ["started", "incomplete", "started"]
    with path.open("a") as file:
        file.write(encode(event("experiment", "e1", status="completed")) + "\n")
    assert next(said)["status"] == "completed"
    lock.release()
    assert list(said) == []


def test_a_cancel_is_forgotten_only_where_no_driver_can_hear_it(tmp_path: Path) -> None:
    cancel = follow(tmp_path, "e1", "started").with_name("cancel")
    workspace = Workspace.open(tmp_path)
    workspace.cancel("e1")
    with FileLock(cancel.with_name(LOCK)):
        workspace.take_back_cancel("e1")
        assert cancel.exists()
    workspace.take_back_cancel("e1")
    assert not cancel.exists()


def test_a_driver_that_does_not_begin_tells_all_its_problems(tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_text("name: bad\ntraining: {epochs: 0, batch_size: 0}\n")
    workspace = Workspace.open(tmp_path)
    with pytest.raises(UsageError, match=r"(?s)training\.epochs.*training\.batch_size"):
        workspace.start(tmp_path / "bad.yaml")
    assert workspace.experiments() == []


def test_the_current_folder_holds_no_modules_for_a_driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "queue.py").write_text("raise SystemExit('this was data')")
    (tmp_path / "bad.yaml").write_text("name: bad\ntraining: {epochs: 0}\n")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match="epochs"):
        Workspace.open(tmp_path).start(tmp_path / "bad.yaml")
