"""Two drivers and two apps on one workspace, and clocks that go backwards."""

from __future__ import annotations

import itertools
import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from safedl import events, liveness
from safedl.cache import Artifact, ArtifactCache
from safedl.data.imageset import Dataset
from safedl.store import queries
from safedl.store.recover import recover
from safedl.store.reindex import reindex
from safedl.workspace import Workspace
from tests.conftest import make_bench
from tests.faults import harness
from tests.store import samples
from tests.store.samples import Workplace
from tests.store.tables import content
from tests.tui.conftest import NOW, UID, FakeDriver, app_on, recorded, screen_text, until
from tui.app import SafedlApp


def test_two_drivers_of_one_profile_share_the_work(workspace: Workspace, undisturbed: Workspace) -> None:
    drivers = [harness.Driver(workspace.root, "run", "small") for _ in range(2)]
    assert [driver.wait() for driver in drivers] == [0, 0], drivers[0].said()
    assert harness.integrity(workspace.db) == []
    assert harness.open_rows(workspace.db) == []
    assert harness.documents(workspace) == harness.documents(undisturbed)  # each stage was completed once
    for uid in workspace.experiments():
        of_it = queries.runs(workspace.db, experiment=uid, status="completed")
        assert len({row.record.stage for row in of_it}) == len(harness.documents(undisturbed))
    assert len(harness.artifacts(workspace)) == len(harness.artifacts(undisturbed))


def shows(app: SafedlApp, text: str) -> bool:
    return text in screen_text(app)


async def test_two_apps_see_the_same_driver_live_and_die(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEXTUAL_ANIMATIONS", "none")
    monkeypatch.setattr("tui.panes.run.gpu_line", lambda: "")
    (tmp_path / "w").mkdir()
    workspace = Workspace.open(tmp_path / "w", tmp_path / "w" / "safedl.db")
    driver = FakeDriver(workspace, recorded())
    driver.say(20)
    passed = itertools.count()

    def clock() -> float:
        return NOW + next(passed) / 10

    async with app_on(workspace, clock=clock) as (first, _), app_on(workspace, clock=clock) as (second, _):
        for app in (first, second):
            await until(partial(shows, app, "▶ baseline"))
        driver.leave()
        for app in (first, second):
            await until(partial(shows, app, "interrupted"))
    assert not workspace.is_running(UID)


def test_many_who_look_take_each_other_for_no_driver(tmp_path: Path) -> None:
    lock = tmp_path / liveness.LOCK
    assert not liveness.is_held(lock)
    lock.touch()
    seen: list[bool] = []

    def look() -> None:
        seen.extend(liveness.is_held(lock) for _ in range(300))

    threads = [threading.Thread(target=look) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == [False] * 1200
    with FileLock(lock):
        assert liveness.is_held(lock)
    assert not liveness.is_held(lock)


def test_two_that_tidy_up_interrupt_each_run_once(tmp_path: Path) -> None:
    work = Workplace(tmp_path)
    work.begin(samples.experiment(), samples.tree())
    found: list[str] = []
    threads = [threading.Thread(target=lambda: found.extend(recover(work.db, work.results))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == sorted(run.uid for run in samples.tree())
    said = list(events.read(work.results / "experiments" / "e1" / "events.jsonl"))
    assert len(said) == len(found)
    work.recorder.close()


@pytest.fixture
def backwards(tmp_path: Path) -> Workplace:
    """Return a workplace where the clock was set back by a day between two attempts, and within a run."""
    work = Workplace(tmp_path)
    today = datetime(2026, 3, 2, 12, tzinfo=UTC)

    def at(hours: float) -> str:
        return (today + timedelta(hours=hours)).isoformat()

    work.begin(samples.experiment(created_at=at(0)), [samples.run("first", stage_key="k", created_at=at(0))])
    work.apply([{**e, "at": at(-24 * i)} for i, e in enumerate(samples.finished("first", {}, "failed", "it broke"))])
    again = samples.run("second", stage_key="k", created_at=at(-30), attempt=2, retry_of="first", experiment="e2")
    work.begin(samples.experiment("e2", created_at=at(-30)), [again])
    work.apply([{**e, "at": at(-30)} for e in samples.finished("second", {"clean_accuracy": 0.9})])
    return work


def test_after_the_clock_was_set_back_the_newest_is_still_the_last_that_ran(backwards: Workplace) -> None:
    assert [row.record.uid for row in queries.runs(backwards.db)] == ["second", "first"]
    assert queries.latest_attempts(backwards.db, ["k"])["k"].uid == "second"
    assert queries.completed(backwards.db, ["k"]) == {"k": "second"}
    assert [e.record.uid for e in queries.experiments(backwards.db)] == ["e2", "e1"]
    backwards.recorder.close()


def test_the_files_say_the_same_after_the_clock_was_set_back(backwards: Workplace) -> None:
    before = content(backwards.db)
    backwards.recorder.close()
    assert reindex(backwards.db, backwards.results).problems == ()
    after = content(backwards.db)
    for found in (before, after):
        found["metric"] = [row for row in found["metric"] if not row[1].startswith("score.")]
    assert after == before
    assert queries.latest_attempts(backwards.db, ["k"])["k"].uid == "second"


def test_a_cache_from_the_future_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = ArtifactCache(tmp_path)
    monkeypatch.setattr("safedl.cache.time.time", lambda: 4e9)
    cache.get("model", "ab12", lambda folder: (folder / "x").write_text("x"))  # type: ignore[arg-type]
    monkeypatch.undo()
    assert cache.find("model", "ab12") is not None
    assert cache.damaged() == []


def test_what_is_removed_from_the_cache_before_it_is_read_is_made_again(
    digits: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench, cache = make_bench(digits), ArtifactCache(tmp_path)
    bench.cache = cache
    model, images = bench.build(0), digits.test.images[:20]
    first = bench.features(model, images)
    get, removed = cache.get, list[bool]()

    def removing(*arguments: Any, **more: Any) -> Artifact:
        artifact = get(*arguments, **more)
        if not removed:
            removed.append(cache.remove(artifact.path))
        return artifact

    monkeypatch.setattr(cache, "get", removing)
    other = replace(bench)
    assert other.features(model, images).equal(first)
    assert removed == [True]
    assert other.spared == 0  # it took its time twice
