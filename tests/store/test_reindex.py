from __future__ import annotations

import math
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from safedl.errors import StoreError
from safedl.events import event
from safedl.store import migrate, queries
from safedl.store.reindex import reindex
from tests.store import samples, tables
from tests.store.samples import Workplace
from tests.store.tables import without_scores


def content(db: Path) -> dict[str, list[tuple[Any, ...]]]:
    return without_scores(tables.content(db))


def fill(work: Workplace) -> None:
    """Everything that happens: success, failure, a cancel, a skip, a link, a twin, a resumed experiment."""
    work.begin(samples.experiment(), samples.tree())
    for uid in ("base", "attack"):
        work.apply(samples.finished(uid, {"clean_accuracy": 0.9, "asr": math.nan, "seconds": 3}))
    work.apply(samples.finished("clean", {}, "failed", "it broke"))
    work.apply([event("run", "perfect", status="cancelled")])
    work.apply([event("run", "random", status="skipped", error="clean did not complete")])
    again = samples.run(
        "clean2",
        "defense",
        parent="attack",
        defense="data_cleaning",
        stage_key="key-clean",
        attempt=2,
        retry_of="clean",
    )
    work.begin(samples.experiment(note="resumed"), [again], linked=["base", "attack"])
    work.apply(samples.finished("clean2", {"asr": 0.1}))
    twin = samples.run("twin", stage_key="key-base", experiment="e2")
    later = samples.experiment("e2", created_at="2026-01-03T00:00:00+00:00")
    work.begin(later, [twin, samples.run("waiting", experiment="e2")], linked=["attack"])
    work.apply(samples.finished("twin", {"asr": 0.2}))


def test_the_files_give_the_same_store(work: Workplace) -> None:
    fill(work)
    before = content(work.db)
    assert {row[1] for row in before["run"]} == {"completed", "failed", "cancelled", "skipped", "queued"}
    work.recorder.close()
    report = reindex(work.db, work.results)
    assert sorted(p.name for p in work.db.parent.iterdir()) == ["results", "safedl.db", "safedl.db.lock"]
    assert report.problems == ()
    assert (report.experiments, report.runs) == (2, 8)
    assert content(work.db) == before
    assert migrate.check(work.db) == []


@pytest.mark.parametrize("state", ["missing", "damaged", "log left behind"])
def test_a_lost_store_comes_back(work: Workplace, state: str) -> None:
    fill(work)
    before = content(work.db)
    log = work.db.with_name("safedl.db-wal").read_bytes()
    work.recorder.close()
    if state == "missing":
        work.db.unlink()
    elif state == "damaged":
        work.db.write_bytes(b"rubbish" * 1000)
    else:
        work.db.with_name("safedl.db-wal").write_bytes(log)
    problems = reindex(work.db, work.results).problems
    assert content(work.db) == before
    assert migrate.check(work.db) == []
    aside = work.db.with_name("safedl.db.damaged")
    assert aside.exists() == (state == "damaged") == any(str(aside) in line for line in problems)


def test_a_store_that_is_damaged_within_is_said_to_be_rebuilt_so_and_is(work: Workplace) -> None:
    fill(work)
    before = content(work.db)
    work.recorder.close()
    with closing(sqlite3.connect(work.db)) as connection:
        (size,) = connection.execute("PRAGMA page_size").fetchone()
        (page,) = connection.execute("SELECT rootpage FROM sqlite_master WHERE name='run'").fetchone()
    with work.db.open("r+b") as file:
        file.seek((page - 1) * size)
        file.write(b"\xff" * size)
    with pytest.raises(StoreError, match=r"malformed; `safedl db reindex` rebuilds it from results/"):
        queries.runs(work.db)
    assert reindex(work.db, work.results).problems == ()
    assert content(work.db) == before


def test_what_is_no_store_is_not_replaced(work: Workplace, tmp_path: Path) -> None:
    fill(work)
    mine = tmp_path / "mine.sqlite"
    with closing(sqlite3.connect(mine)) as connection:
        connection.execute("CREATE TABLE mine (x)")
    before = mine.read_bytes()
    with pytest.raises(StoreError, match="not a Safe-DL store; choose another file"):
        reindex(mine, work.results)
    assert mine.read_bytes() == before
    with pytest.raises(StoreError, match="is a folder, not a store"):
        reindex(tmp_path, work.results)


def test_damaged_folders_are_reported_and_left_out(work: Workplace) -> None:
    fill(work)
    work.recorder.close()
    runs = work.results / "runs"
    (runs / "clean" / "config.yaml").write_text("uid: [")
    (runs / "perfect" / "config.yaml").write_text("uid: perfect\nseed: many\n")
    (runs / "random" / "config.yaml").unlink()
    (runs / "base").rename(runs / "renamed")
    with (runs / "clean2" / "events.jsonl").open("a") as file:
        file.write('{"event": "run", "uid": "clean2", "stat')
    with (runs / "twin" / "events.jsonl").open("a") as file:
        file.write('{"event": "metric", "uid": "twin", "at": "2026-01-01T00:00:00+00:00", "name": "x"}\n')
    (work.results / "experiments" / "e2" / "plan.json").write_text("{")
    report = reindex(work.db, work.results)
    text = "\n".join(report.problems)
    assert (report.experiments, report.runs) == (1, 2)
    for part in (
        "experiments/e2: left out", "runs/clean: left out", "runs/perfect: left out", "runs/random: left out",
        "runs/renamed: left out: it says that its uid is base",
        "runs/attack: left out: the run that it starts from, base, is missing",
        "runs/clean2: left out: the run that it starts from, attack, is missing",
        "run twin: events.jsonl", "run twin: its experiment e2 is missing", "run base: named by experiment e1",
    ):  # fmt: skip
        assert part in text
    assert all("\n" not in problem for problem in report.problems)
    assert queries.find_run(work.db, "waiting").status == "queued"
    assert migrate.check(work.db) == []


@pytest.mark.parametrize("left", [None, "", '{"metrics": {'])
def test_a_completed_run_without_its_result_is_to_be_run_again(work: Workplace, left: str | None) -> None:
    fill(work)
    work.recorder.close()
    result = work.results / "runs" / "attack" / "result.json"
    result.unlink() if left is None else result.write_text(left)
    report = reindex(work.db, work.results)
    assert any(p.startswith("runs/attack: left out: ") for p in report.problems)
    assert not any("named by" in p for p in report.problems), "each is told of once"
    known = queries.completed(work.db, ["key-attack", "key-base", "key-clean"])
    assert known == {"key-base": "base"}, "what it was the start of is run again too"


def test_a_result_that_no_driver_told_of_is_none(work: Workplace) -> None:
    """A driver may be killed when a stage has written its result, before it says that the stage is completed."""
    fill(work)
    work.apply([event("run", "waiting", status="running"), event("run", "waiting", status="interrupted")])
    (work.results / "runs" / "waiting" / "result.json").write_text('{"metrics": {"asr": 0.5}, "timing": {}}')
    before = content(work.db)
    work.recorder.close()
    assert reindex(work.db, work.results).problems == ()
    assert content(work.db) == before


def test_runs_keep_the_order_in_which_they_were_made(work: Workplace) -> None:
    times = {"r1": "05", "r2": "01", "r3": "03"}
    made = [samples.run(uid, created_at=f"2026-01-{day}T00:00:00+00:00") for uid, day in times.items()]
    work.begin(samples.experiment(), made[:2])
    work.begin(samples.experiment(), made[2:])  # resumed: the plan names this run only
    work.recorder.close()
    reindex(work.db, work.results)
    assert [row.record.uid for row in queries.runs(work.db)] == ["r1", "r3", "r2"]


def test_results_may_be_empty(tmp_path: Path) -> None:
    report = reindex(tmp_path / "safedl.db", tmp_path / "results")
    assert (report.experiments, report.runs, report.problems) == (0, 0, ())
    assert queries.runs(tmp_path / "safedl.db") == []


def test_not_while_a_driver_works(work: Workplace) -> None:
    fill(work)
    before = content(work.db)
    with (
        FileLock(work.results / "experiments" / "e2" / "driver.lock"),
        pytest.raises(StoreError, match="experiment e2 is running"),
    ):
        reindex(work.db, work.results)
    assert content(work.db) == before


def test_of_twins_the_one_that_completed_first_counts(work: Workplace) -> None:
    work.begin(samples.experiment(), [samples.run("first", stage_key="k")])
    work.begin(samples.experiment("e2"), [samples.run("second", stage_key="k", experiment="e2")])
    for second, uid in (("01", "second"), ("02", "first")):
        work.apply([{**item, "at": f"2026-01-05T00:00:{second}+00:00"} for item in samples.finished(uid, {})])
    assert queries.completed(work.db, ["k"]) == {"k": "second"}
    work.recorder.close()
    reindex(work.db, work.results)
    assert queries.completed(work.db, ["k"]) == {"k": "second"}


def test_a_driver_that_starts_meanwhile_keeps_its_store(work: Workplace, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(work)
    work.recorder.close()
    before, driving = work.db.stat().st_ino, iter([[], ["e1"]])
    monkeypatch.setattr("safedl.store.reindex.living_drivers", lambda _results: next(driving))
    with pytest.raises(StoreError, match="e1 is running"):
        reindex(work.db, work.results)
    assert work.db.stat().st_ino == before
