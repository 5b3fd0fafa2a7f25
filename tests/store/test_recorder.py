from __future__ import annotations

import math
import sqlite3
from contextlib import closing
from typing import Any

import pytest

from safedl.errors import StoreError
from safedl.events import event
from safedl.store import queries, sql
from safedl.store.engine import write_engine
from safedl.store.records import FINAL
from tests.store import samples
from tests.store.samples import Workplace


def start(work: Workplace, uid: str = "r1", **changes: Any) -> None:
    work.recorder.begin(samples.experiment(), [samples.run(uid, **changes)])


def test_a_run_comes_back_as_it_was_written(work: Workplace) -> None:
    runs = samples.tree()
    work.recorder.begin(samples.experiment(), list(reversed(runs)))  # in any order
    assert {r.uid: queries.find_run(work.db, r.uid).record for r in runs} == {r.uid: r for r in runs}
    assert {queries.find_run(work.db, r.uid).status for r in runs} == {"queued"}
    found = queries.experiments(work.db)
    assert found[0].record == samples.experiment()
    assert found[0].states == {"queued": 5}


def test_a_run_from_start_to_end(work: Workplace) -> None:
    start(work)
    sent = samples.finished("r1", {"clean_accuracy": 0.97, "asr": 1, "name": "x", "ok": True, "per_class": {"0": 1}})
    work.recorder.apply(sent[:2])
    row = queries.find_run(work.db, "r1")
    assert (row.status, row.progress, row.started_at, row.finished_at) == ("running", 0.5, sent[0]["at"], None)
    work.recorder.apply(sent[2:])
    row = queries.find_run(work.db, "r1")
    assert (row.status, row.progress, row.finished_at, row.error) == ("completed", 1.0, sent[-1]["at"], None)
    assert row.metrics == {"clean_accuracy": 0.97, "asr": 1.0}
    assert queries.metric_points(work.db, "r1") == {"loss": [(0, 2.5), (1, 1.5)]}
    assert [line.message for line in queries.run_log(work.db, "r1")] == ["running", "completed"]


def test_timing_counts_as_metrics(work: Workplace) -> None:
    start(work)
    work.recorder.apply([event("result", "r1", metrics={"asr": 0.5}, timing={"seconds": 2})])
    assert queries.find_run(work.db, "r1").metrics == {"asr": 0.5, "seconds": 2.0}


def test_applying_events_again_changes_nothing(work: Workplace) -> None:
    start(work)
    sent = samples.finished("r1", {"asr": 0.5})
    work.recorder.apply(sent)
    before = _dump(work)
    work.recorder.apply(sent)
    work.recorder.apply(sent[3:])
    assert _dump(work) == before


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_numbers_that_are_not_finite_are_null(work: Workplace, value: float) -> None:
    start(work)
    work.recorder.apply([event("result", "r1", metrics={"asr": value, "tpr": 1.0})])
    work.recorder.apply([event("metric", "r1", name="loss", step=3, value=value)])
    assert queries.find_run(work.db, "r1").metrics == {"asr": None, "tpr": 1.0}
    assert queries.metric_points(work.db, "r1") == {"loss": [(3, None)]}


@pytest.mark.parametrize("status", FINAL)
def test_final_states_never_change(work: Workplace, status: str) -> None:
    start(work)
    work.recorder.apply([event("run", "r1", status=status, error="why")])
    first = queries.find_run(work.db, "r1")
    assert (first.status, first.error, first.started_at) == (status, "why", None)
    for other in ("running", *FINAL):
        work.recorder.apply([event("run", "r1", status=other, error="late")])
    work.recorder.apply([event("progress", "r1", phase="x", done=1, total=4)])
    assert queries.find_run(work.db, "r1") == first
    assert len(queries.run_log(work.db, "r1")) == 1


def test_failures_say_why(work: Workplace) -> None:
    start(work)
    work.recorder.apply(samples.finished("r1", {}, "failed", "out of memory"))
    (_, line) = queries.run_log(work.db, "r1")
    assert (line.level, line.message) == ("error", "failed: out of memory")
    assert queries.find_run(work.db, "r1").error == "out of memory"


def test_one_result_is_not_counted_twice(work: Workplace) -> None:
    start(work, "r1", stage_key="same")
    work.recorder.begin(
        samples.experiment("e2"),
        [samples.run("r2", stage_key="same", experiment="e2"), samples.run("r3", experiment="e2")],
    )
    for uid in ("r1", "r2", "r3"):
        work.recorder.apply(samples.finished(uid, {"asr": 0.5}))
    second = queries.find_run(work.db, "r2")
    assert (second.status, second.error) == ("skipped", "same result as run r1")
    assert {r.record.uid for r in queries.runs(work.db, experiment="e2")} == {"r1", "r2", "r3"}
    assert queries.completed(work.db, ["same", "key-r3", "unknown"]) == {"same": "r1", "key-r3": "r3"}
    assert {k: a.uid for k, a in queries.latest_attempts(work.db, ["same", "unknown"]).items()} == {"same": "r2"}


def test_runs_of_others_are_linked(work: Workplace) -> None:
    start(work)
    work.recorder.begin(samples.experiment("e2"), [], linked=["r1"])
    assert [e.states for e in queries.experiments(work.db)] == [{"queued": 1}, {"queued": 1}]
    assert [r.record.experiment for r in queries.runs(work.db, experiment="e2")] == ["e1"]


def test_an_unknown_link_leaves_nothing_behind(work: Workplace) -> None:
    with pytest.raises(StoreError, match="no run nobody"):
        work.recorder.begin(samples.experiment(), [samples.run("r1")], linked=["nobody"])
    assert queries.experiments(work.db) == []
    assert queries.runs(work.db) == []


def test_a_resumed_experiment_keeps_its_row(work: Workplace) -> None:
    start(work)
    work.recorder.apply([event("run", "r1", status="cancelled")])
    again = samples.run("r2", stage_key="key-r1", attempt=2, retry_of="r1")
    work.recorder.begin(samples.experiment(note="again"), [again])
    (found,) = queries.experiments(work.db)
    assert found.record.note == "again"
    assert found.states == {"cancelled": 1, "queued": 1}
    assert queries.find_run(work.db, "r2").record.retry_of == "r1"
    assert sql.query(work.db, "SELECT uid FROM current_run").rows == [("r2",)]


def test_events_of_unknown_runs_are_passed_over(work: Workplace) -> None:
    work.recorder.apply([event("experiment", "e9", status="started"), *samples.finished("r9", {"asr": 1.0})])
    assert _dump(work) == [[], [], [], [], []]


def test_a_run_without_seconds_needs_no_metrics(work: Workplace) -> None:
    work.recorder.apply([])
    work.recorder.begin(samples.experiment(), [])
    assert queries.experiments(work.db)[0].states == {}


def _dump(work: Workplace) -> list[list[tuple[Any, ...]]]:
    tables = ("run", "metric", "metric_point", "event", "experiment_run")
    return [sql.query(work.db, f"SELECT * FROM {t}").rows for t in tables]


def test_a_transaction_holds_the_write_lock_from_its_start(work: Workplace) -> None:
    engine = write_engine(work.db)
    with (
        engine.begin(),
        closing(sqlite3.connect(work.db, timeout=0)) as other,
        pytest.raises(sqlite3.OperationalError, match="locked"),
    ):
        other.execute("BEGIN IMMEDIATE")
    engine.dispose()
