from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from safedl.errors import NotFoundError, UsageError
from safedl.store import queries
from safedl.store.remove import remove_run
from safedl.workspace import Workspace
from tests.store.samples import Workplace, experiment, finished, run, tree


def uids(db: Path) -> set[str]:
    return {row.record.uid for row in queries.runs(db)}


def test_a_run_goes_with_all_that_belongs_to_it(work: Workplace) -> None:
    work.begin(experiment(), tree())
    for record in tree():
        work.apply(finished(record.uid, {"clean_accuracy": 0.9}))
    workspace = Workspace.open(work.results.parent, work.db)
    workspace.delete_run("clean")
    assert uids(work.db) == {"base", "attack", "perfect", "random"}
    assert not workspace.run_folder("clean").exists()
    assert workspace.run_folder("attack").exists()
    with sqlite3.connect(work.db) as connection:
        for table in ("metric", "metric_point", "event", "experiment_run"):
            known = "SELECT id FROM run"
            (left,) = connection.execute(f"SELECT count(*) FROM {table} WHERE run_id NOT IN ({known})").fetchone()
            assert left == 0


def test_a_run_that_others_start_from_stays(work: Workplace) -> None:
    work.begin(experiment(), tree())
    for record in tree():
        work.apply(finished(record.uid, {}))
    workspace = Workspace.open(work.results.parent, work.db)
    with pytest.raises(UsageError, match="3 runs start from it"):
        workspace.delete_run("attack")
    assert len(uids(work.db)) == 5
    assert workspace.run_folder("attack").exists()


@pytest.mark.parametrize("started", [False, True])
def test_a_run_that_has_not_ended_stays(work: Workplace, started: bool) -> None:
    work.begin(experiment(), [run("base")])
    if started:
        work.apply(finished("base", {})[:1])
    with pytest.raises(UsageError, match="cancel it first"):
        remove_run(work.db, "base")
    assert uids(work.db) == {"base"}


def test_the_earliest_attempt_may_go_but_not_one_between_two_others(work: Workplace) -> None:
    attempts = [run("one", stage_key="k"), run("two", stage_key="k", retry_of="one"),
                run("three", stage_key="k", retry_of="two")]  # fmt: skip
    work.begin(experiment(), attempts)
    for record in attempts:
        work.apply(finished(record.uid, {}, "failed"))
    with pytest.raises(UsageError, match="between two attempts"):
        remove_run(work.db, "two")
    remove_run(work.db, "one")
    assert [r.record.retry_of for r in queries.runs(work.db)] == ["two", None]
    remove_run(work.db, "two")
    assert uids(work.db) == {"three"}


def test_an_unknown_run_is_named(work: Workplace) -> None:
    with pytest.raises(NotFoundError, match="no run 'x'"):
        remove_run(work.db, "x")
