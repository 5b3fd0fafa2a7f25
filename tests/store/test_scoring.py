from __future__ import annotations

import sqlite3
from contextlib import closing

import pytest

from safedl.errors import NotFoundError
from safedl.evaluation.comparison import compare
from safedl.evaluation.scores import SCORE_VERSION, score
from safedl.plan import Stage
from safedl.store import migrate, queries, scoring
from safedl.store.engine import write_engine
from safedl.store.recorder import apply_events
from safedl.store.recover import recover
from safedl.store.reindex import reindex
from safedl.store.results import Selection, results
from tests.conclusions.measured import METRICS, measure, ran
from tests.store.samples import Workplace


def scores(work: Workplace) -> dict[str, dict[str, float | None]]:
    """Return the `score.*` metrics of each completed run, by uid."""
    rows = queries.runs(work.db, status="completed", limit=1000)
    found = {r.record.uid: {k: v for k, v in r.metrics.items() if k.startswith("score.")} for r in rows}
    return {uid: values for uid, values in found.items() if values}


def final(work: Workplace, defense: str) -> float | None:
    return queries.runs(work.db, defense=defense)[0].metrics["score.final"]


def test_every_run_that_starts_from_another_is_scored(work: Workplace) -> None:
    ran(work, seeds=(0,))
    kinds = {r.record.uid: r.record.kind for r in queries.runs(work.db, limit=100)}
    assert set(scores(work)) == {uid for uid, kind in kinds.items() if kind != "baseline"}
    baseline, attacked = (
        METRICS["baseline"] | {"clean_accuracy.0": 1.0, "clean_accuracy.1": 1.0},
        METRICS["static_patch"],
    )
    expected = score("asr", baseline, attacked, METRICS["spectral_signatures"])
    assert final(work, "spectral_signatures") == pytest.approx(expected.final)


def test_nothing_done_is_worth_nothing_and_ruin_less(work: Workplace) -> None:
    ran(work, seeds=(0,))
    attack = queries.runs(work.db, kind="attack", attack="static_patch")[0]
    assert attack.metrics["score.final"] == 0.0
    assert final(work, "activation_clustering") == 0.0
    ruined = final(work, "anomaly_detection")
    assert ruined is not None and ruined < 0


def test_an_attack_without_effect_scores_nothing(work: Workplace) -> None:
    ran(work, seeds=(0,))
    found = queries.runs(work.db, defense="robust_loss")[0].metrics
    assert found["score.final"] is None
    assert found["score.version"] == SCORE_VERSION


def test_a_backdoor_that_the_clean_model_has_too_is_neither_scored_nor_ranked(work: Workplace) -> None:
    def measure_same(stage: Stage) -> dict[str, float]:
        same = {"target_rate_clean_model": 0.955, "attack_success_denominator": 900.0}
        return measure(stage) | (same if stage.id.startswith("static_patch@") else {})

    ran(work, seeds=(0,), measure=measure_same)
    assert final(work, "spectral_signatures") is None
    (ranking,) = compare(results(work.db, Selection(attack="static_patch")))
    assert not ranking.effective and "without a trigger" in ranking.note
    assert {e.place for e in ranking.entries} == {None}


def test_scoring_again_changes_nothing(work: Workplace) -> None:
    ran(work)
    before = scores(work)
    assert scoring.rescore(work.db) == 0
    assert scores(work) == before


def test_what_was_lost_is_computed_again_for_the_runs_named(work: Workplace) -> None:
    ran(work, seeds=(0,))
    before = scores(work)
    some = sorted(before)[:2]
    work.recorder.apply([{"event": "result", "uid": uid, "metrics": {"score.final": 9.0}} for uid in sorted(before)])
    assert scoring.rescore(work.db, some) == 2
    assert {uid: values for uid, values in scores(work).items() if uid in some} == {uid: before[uid] for uid in some}
    assert scoring.rescore(work.db) == len(before) - 2
    assert scores(work) == before


def test_reindex_gives_the_same_scores(work: Workplace) -> None:
    ran(work)
    before = scores(work)
    work.recorder.close()
    assert reindex(work.db, work.results).problems == ()
    assert scores(work) == before


def test_more_runs_than_one_transaction_holds(work: Workplace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scoring, "CHUNK", 3)
    ran(work)
    assert len(scores(work)) == 2 * 10


def test_runs_that_did_not_complete_have_no_scores(work: Workplace) -> None:
    ran(work, seeds=(0,), statuses={"static_patch/anomaly_detection@0": "failed"})
    failed = queries.runs(work.db, defense="anomaly_detection")[0]
    assert not any(name.startswith("score.") for name in failed.metrics)


def test_missing_metrics_and_missing_stores(work: Workplace) -> None:
    ran(work, seeds=(0,), measure=lambda s: {} if s.kind == "baseline" else measure(s))
    assert final(work, "spectral_signatures") is None
    with pytest.raises(NotFoundError):
        scoring.rescore(work.db.with_name("none.db"))


def test_what_a_driver_finished_before_it_died_is_scored(work: Workplace) -> None:
    ran(work, seeds=(0,), statuses={"label_flipping/robust_loss@0": "running"})
    before = scores(work)
    with closing(sqlite3.connect(work.db)) as connection, connection:
        connection.execute("DELETE FROM metric WHERE name GLOB 'score.*'")
    assert len(recover(work.db, work.results)) == 1
    assert scores(work) == before


def aged(work: Workplace) -> dict[str, dict[str, float | None]]:
    """Give the store an earlier schema and scores of an earlier formula; return those that they were."""
    before = scores(work)
    work.recorder.close()
    migrate.move_to(work.db, "0001")
    old = [{"event": "result", "uid": uid, "metrics": {"score.final": 9.0, "score.version": 1.0}} for uid in before]
    with write_engine(work.db).begin() as connection:
        apply_events(connection, old)
    return before


def test_an_upgrade_renews_the_scores_of_earlier_formulas(work: Workplace) -> None:
    ran(work, seeds=(0,))
    before = aged(work)
    assert migrate.upgrade(work.db) is not None
    assert scores(work) == before


def test_an_upgrade_that_was_cut_short_leaves_no_mixture_of_scores(
    work: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran(work, seeds=(0,))
    before = aged(work)

    def interrupt(*_: object) -> int:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(scoring, "rescore_rows", interrupt)
        migrate.upgrade(work.db)
    assert migrate.upgrade(work.db) is not None
    assert scores(work) == before
