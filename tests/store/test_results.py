from __future__ import annotations

import sqlite3
from contextlib import closing

import pytest

from safedl.errors import NotFoundError
from safedl.evaluation.comparison import compare
from safedl.store.results import Selection, evidence, latest_experiment, newest_cell, results
from tests.conclusions.measured import METRICS, PROFILE, ran
from tests.store import samples
from tests.store.samples import Workplace

OTHER = PROFILE.replace("name: small", "name: other").replace("digits", "mnist").replace("name: cnn", "name: mlp")


def test_what_a_comparison_needs(work: Workplace) -> None:
    ran(work, seeds=(0,))
    found = {r.defense: r for r in results(work.db, Selection(attack="static_patch"))}
    assert set(found) == {
        "none", "activation_clustering", "spectral_signatures", "anomaly_detection", "perfect_removal",
        "random_removal:activation_clustering", "random_removal:spectral_signatures",
        "random_removal:anomaly_detection",
    }  # fmt: skip
    mended, none = found["spectral_signatures"], found["none"]
    assert mended.metrics["asr"] == METRICS["spectral_signatures"]["asr"]
    assert mended.before["asr"] == METRICS["static_patch"]["asr"]
    assert mended.baseline["test_images"] == none.baseline["test_images"] == 1000.0
    assert mended.attack_recipe == none.recipe == none.attack_recipe
    assert (mended.category, none.kind, found["perfect_removal"].kind) == ("backdoor", "attack", "bound")


def test_selections(work: Workplace) -> None:
    ran(work)
    ran(work, OTHER, uid="e2", seeds=(0,))
    count = len(results(work.db, Selection()))
    assert count == 3 * 10
    assert len(results(work.db, Selection(dataset="mnist"))) == 10
    assert len(results(work.db, Selection(model="cnn"))) == 20
    assert len(results(work.db, Selection(attack="label_flipping"))) == 6
    assert len(results(work.db, Selection(experiment="e2", attack="label_flipping"))) == 2
    assert results(work.db, Selection(attack="pgd")) == []
    newest = results(work.db, Selection(), limit=4)
    assert [r.uid for r in newest] == [r.uid for r in results(work.db, Selection())][-4:]
    assert newest[0].baseline["clean_accuracy"] == 0.98


def test_only_completed_runs_are_compared(work: Workplace) -> None:
    ran(work, seeds=(0,), statuses={"static_patch/anomaly_detection@0": "failed"})
    (ranking,) = compare(results(work.db, Selection(attack="static_patch")))
    assert "anomaly_detection" not in {e.defense for e in ranking.entries}


def test_what_has_lost_what_it_started_from_is_not_compared(work: Workplace) -> None:
    ran(work, seeds=(0,))
    with closing(sqlite3.connect(work.db)) as connection, connection:
        connection.execute("UPDATE run SET parent_id = NULL WHERE defense = 'anomaly_detection'")
    (ranking,) = compare(results(work.db, Selection(attack="static_patch")))
    assert {e.defense for e in ranking.entries if e.kind == "defense"} == {
        "activation_clustering",
        "spectral_signatures",
    }


def test_newest_cell_and_latest_experiment(work: Workplace) -> None:
    assert newest_cell(work.db) is None
    ran(work, seeds=(0,))
    ran(work, OTHER, uid="e2", seeds=(0,))
    ran(work, uid="e3", seeds=(2,), statuses={"baseline@2": "failed"})
    assert newest_cell(work.db) == ("digits", "cnn")
    assert latest_experiment(work.db, "small") == "e3"
    assert latest_experiment(work.db, "other") == "e2"
    assert latest_experiment(work.db, "x") is None
    scan = samples.run("scan", "scan", experiment="e4", stage="scan@2")
    work.begin(samples.experiment("e4", name="small"), [scan])
    assert latest_experiment(work.db, "small") == "e3"  # a scan compares nothing
    with pytest.raises(NotFoundError):
        newest_cell(work.db.with_name("none.db"))


def test_evidence_is_the_mean_over_seeds_of_one_recipe(work: Workplace) -> None:
    ran(work)
    ran(work, OTHER, uid="e2", seeds=(0,))
    (mended,) = [e for e in evidence(work.db, "static_patch", ["digits"], "cnn") if e.defense == "spectral_signatures"]
    own = [r for r in results(work.db, Selection("digits")) if r.defense == "spectral_signatures"]
    assert mended.score == pytest.approx(sum(r.metrics["score.final"] or 0 for r in own) / 2)
    assert (mended.seeds, mended.runs) == (2, tuple(r.uid for r in own))
    assert evidence(work.db, "static_patch", ["mnist"], "cnn") == []
    assert {e.defense for e in evidence(work.db, "static_patch", ["digits", "mnist"], "mlp")} == {
        "activation_clustering", "spectral_signatures", "anomaly_detection",
    }  # fmt: skip
    assert evidence(work.db, "label_flipping", ["digits"], "cnn") == []  # it did not work, so nothing is scored
