from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from safedl.errors import NotFoundError
from safedl.store import queries
from tests.store import samples
from tests.store.samples import Workplace


def uids(rows: list[Any]) -> list[str]:
    return [row.record.uid for row in rows]


def test_runs_are_filtered(work: Workplace) -> None:
    work.recorder.begin(samples.experiment(), samples.tree())
    other = samples.tree("2", experiment="e2", dataset="svhn")
    work.recorder.begin(samples.experiment("e2"), other)
    work.recorder.apply(samples.finished("clean2", {}))
    assert len(queries.runs(work.db)) == 10
    assert uids(queries.runs(work.db, kind="defense")) == ["clean2", "clean"]
    assert uids(queries.runs(work.db, defense="data_cleaning", dataset="digits")) == ["clean"]
    assert uids(queries.runs(work.db, status="completed")) == ["clean2"]
    assert uids(queries.runs(work.db, attack="static_patch", kind="attack", experiment="e1")) == ["attack"]
    assert queries.runs(work.db, attack="nothing") == []
    assert uids(queries.open_runs(work.db))[:2] == ["random2", "perfect2"]
    assert "clean2" not in uids(queries.open_runs(work.db))


def test_runs_are_paged_newest_first(work: Workplace) -> None:
    work.recorder.begin(samples.experiment(), [samples.run(f"r{i}") for i in range(7)])
    pages = [queries.runs(work.db, limit=3)]
    while pages[-1]:
        pages.append(queries.runs(work.db, limit=3, before=pages[-1][-1].record.uid))
    assert [uids(page) for page in pages] == [["r6", "r5", "r4"], ["r3", "r2", "r1"], ["r0"], []]


def test_experiments_are_paged_newest_first(work: Workplace) -> None:
    for i in range(3):
        work.recorder.begin(samples.experiment(f"e{i}"), [])
    assert uids(queries.experiments(work.db, limit=2)) == ["e2", "e1"]
    assert uids(queries.experiments(work.db, before="e1")) == ["e0"]


def test_a_part_of_the_uid_finds_a_run(work: Workplace) -> None:
    names = ["20260101-000000-aaa111", "20260101-000000-aab222", "20260102-000000-%_c333"]
    work.recorder.begin(samples.experiment(), [samples.run(uid) for uid in names])
    assert queries.find_run(work.db, names[0]).record.uid == names[0]
    assert queries.find_run(work.db, "b222").record.uid == names[1]
    assert queries.find_run(work.db, "%").record.uid == names[2]
    with pytest.raises(NotFoundError, match=r"several runs.*aab222, 20260101-000000-aaa111"):
        queries.find_run(work.db, "20260101")
    for unknown in ("zzz", "", "a_b"):
        with pytest.raises(NotFoundError, match="no run"):
            queries.find_run(work.db, unknown)


def test_children_start_from_their_parent(work: Workplace) -> None:
    work.recorder.begin(samples.experiment(), samples.tree())
    assert uids(queries.children(work.db, "attack")) == ["random", "perfect", "clean"]
    assert queries.children(work.db, "clean") == []


def test_many_stage_keys_at_once(work: Workplace) -> None:
    work.recorder.begin(samples.experiment(), [samples.run("r1")])
    work.recorder.apply(samples.finished("r1", {}))
    assert queries.completed(work.db, [*(f"k{i}" for i in range(40_000)), "key-r1"]) == {"key-r1": "r1"}


@pytest.mark.parametrize(
    "ask",
    [
        queries.runs,
        queries.experiments,
        queries.open_runs,
        lambda db: queries.find_run(db, "r"),
        lambda db: queries.children(db, "r"),
        lambda db: queries.metric_points(db, "r"),
        lambda db: queries.run_log(db, "r"),
    ],
)
def test_a_missing_store_is_named_and_not_made(tmp_path: Path, ask: Callable[[Path], Any]) -> None:
    db = tmp_path / "safedl.db"
    with pytest.raises(NotFoundError, match="no store yet"):
        ask(db)
    assert queries.completed(db, ["k"]) == {}
    assert queries.latest_attempts(db, ["k"]) == {}
    assert list(tmp_path.iterdir()) == []


def test_unknown_runs_have_no_log(work: Workplace) -> None:
    for ask in (queries.metric_points, queries.run_log):
        with pytest.raises(NotFoundError, match="no run 'r9'"):
            ask(work.db, "r9")


def test_records_and_sql_need_no_sqlalchemy() -> None:
    code = (
        "import sys, safedl.store.records, safedl.store.sql, safedl.store.migrate; "
        "print([m for m in ('sqlalchemy', 'sqlmodel', 'alembic', 'torch') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
