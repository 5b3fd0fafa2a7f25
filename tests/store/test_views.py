from __future__ import annotations

from typing import Any

import pytest

from safedl.store import sql, views
from tests.store import samples
from tests.store.samples import Workplace

BASE = {"clean_accuracy": 0.98, "seconds": 10.0}
ATTACK = {"clean_accuracy": 0.97, "asr": 0.95, "robust_accuracy": 0.02, "source_target_rate": 0.5}
DEFENSE = {
    "clean_accuracy": 0.96, "asr": 0.10, "robust_accuracy": 0.85, "tpr": 0.9, "fpr": 0.01, "precision": 0.75,
    "auroc": 0.99, "removed": 50, "seconds": 12.0, "memory_mb": 300.0, "score.mitigation": 0.9, "score.final": 0.8,
    "score.cost": 0.1, "score.cad": 0.95,
}  # fmt: skip
PERFECT = {"clean_accuracy": 0.98, "asr": 0.01, "removed": 45}
RANDOM = {"clean_accuracy": 0.97, "asr": 0.94, "removed": 50}


def put(work: Workplace, suffix: str, *, scores: tuple[float, ...] = (), **changes: Any) -> None:
    """Record a finished tree of runs; `scores` adds a second defense's final score."""
    runs = samples.tree(suffix, experiment=f"e{suffix}", **changes)
    extra = [
        samples.run(f"other{i}{suffix}", "defense", parent=runs[1].uid, defense=f"other{i}", **changes)
        for i, _ in enumerate(scores)
    ]
    work.recorder.begin(samples.experiment(f"e{suffix}"), [*runs, *extra])
    for record, metrics in zip(runs, (BASE, ATTACK, DEFENSE, PERFECT, RANDOM), strict=True):
        work.recorder.apply(samples.finished(record.uid, metrics))
    for record, score in zip(extra, scores, strict=True):
        work.recorder.apply(samples.finished(record.uid, {"score.final": score}))


def rows(work: Workplace, text: str) -> list[dict[str, Any]]:
    return sql.query(work.db, text).as_dicts()


def test_defense_results(work: Workplace) -> None:
    put(work, "")
    (row,) = rows(work, "SELECT * FROM defense_results")
    assert (row["uid"], row["attack"], row["defense"]) == ("clean", "static_patch", "data_cleaning")
    assert (row["dataset"], row["model"], row["threat"], row["seed"]) == ("digits", "cnn", "backdoor", 0)
    assert row["baseline_accuracy"] == 0.98
    assert (row["clean_before"], row["clean_after"]) == (0.97, 0.96)
    assert row["clean_delta"] == pytest.approx(-0.01)
    assert (row["asr_before"], row["asr_after"]) == (0.95, 0.10)
    assert row["asr_delta"] == pytest.approx(-0.85)
    assert row["robust_delta"] == pytest.approx(0.83)
    assert (row["source_target_before"], row["source_target_after"]) == (0.5, None)
    assert (row["tpr"], row["fpr"], row["precision"], row["auroc"], row["removed"]) == (0.9, 0.01, 0.75, 0.99, 50)
    assert (row["mitigation"], row["cad"], row["cost"], row["score"]) == (0.9, 0.95, 0.1, 0.8)
    assert (row["seconds"], row["memory_mb"], row["epsilon_spent"]) == (12.0, 300.0, None)


def test_bounds_stand_apart(work: Workplace) -> None:
    put(work, "")
    found = rows(work, "SELECT bound, detector, asr_before, asr_after, removed FROM bound_results ORDER BY bound")
    assert [list(row.values()) for row in found] == [
        ["perfect_removal", None, 0.95, 0.01, 45.0],
        ["random_removal", "data_cleaning", 0.95, 0.94, 50.0],
    ]
    for view in ("defense_results", "leaderboard"):
        assert {row["defense"] for row in rows(work, f"SELECT defense FROM {view}")} == {"data_cleaning"}


def test_attack_results(work: Workplace) -> None:
    put(work, "")
    (row,) = rows(work, "SELECT * FROM attack_results")
    assert (row["attack"], row["clean_before"], row["clean_after"], row["asr"]) == ("static_patch", 0.98, 0.97, 0.95)
    assert row["clean_delta"] == pytest.approx(-0.01)


def test_only_completed_runs_are_results(work: Workplace) -> None:
    work.recorder.begin(samples.experiment(), samples.tree())
    for uid in ("base", "attack", "clean", "perfect"):
        work.recorder.apply(samples.finished(uid, DEFENSE, "failed"))
    for view in ("attack_results", "defense_results", "bound_results", "leaderboard"):
        assert rows(work, f"SELECT * FROM {view}") == []
    assert rows(work, "SELECT uid, experiment, kind FROM open_runs") == [
        {"uid": "random", "experiment": "e1", "kind": "bound"}
    ]


def test_leaderboard_averages_seeds_and_ranks_within_a_cell(work: Workplace) -> None:
    put(work, "", scores=(0.95, 0.1), seed=0)
    put(work, "1", scores=(0.75, 0.3), seed=1)
    put(work, "x", scores=(0.1,), dataset="svhn")
    put(work, "y", scores=(0.9,), attack="learned_trigger", recipe="y")
    of_one = "SELECT * FROM leaderboard WHERE dataset = 'digits' AND attack = 'static_patch' ORDER BY place"
    found = rows(work, of_one)
    assert [(r["defense"], r["place"], r["seeds"]) for r in found] == [
        ("other0", 1, 2), ("data_cleaning", 2, 2), ("other1", 3, 2),
    ]  # fmt: skip
    assert [r["score"] for r in found] == pytest.approx([0.85, 0.8, 0.2])
    assert (found[0]["score_min"], found[0]["score_max"]) == (0.75, 0.95)
    assert found[1]["asr_delta"] == pytest.approx(-0.85)
    assert rows(work, "SELECT defense FROM leaderboard WHERE dataset = 'svhn' AND place = 2") == [{"defense": "other0"}]


def test_other_parameters_are_another_line(work: Workplace) -> None:
    put(work, "", recipe="weak")
    put(work, "1", recipe="strong")
    assert [r["recipe"] for r in rows(work, "SELECT recipe FROM leaderboard ORDER BY 1")] == ["strong", "weak"]


def test_of_several_runs_with_one_recipe_and_seed_the_newest_counts(work: Workplace) -> None:
    put(work, "", scores=(0.1, 0.3))
    put(work, "again", scores=(0.95, 0.2))
    found = {r["defense"]: r for r in rows(work, "SELECT * FROM leaderboard WHERE defense LIKE 'other%'")}
    assert [(found[n]["score"], found[n]["seeds"]) for n in ("other0", "other1")] == [(0.95, 1), (0.2, 1)]


def test_without_scores_there_is_no_place(work: Workplace) -> None:
    work.recorder.begin(samples.experiment(), samples.tree())
    for uid in ("base", "attack", "clean"):
        work.recorder.apply(samples.finished(uid, {"clean_accuracy": 0.5}))
    (row,) = rows(work, "SELECT * FROM leaderboard")
    assert (row["score"], row["place"], row["seeds"]) == (None, None, 1)


def test_run_param_names_parameters_as_the_profile_does(work: Workplace) -> None:
    params = {
        "attack": "pgd",
        "attack.poison_fraction": 0.1,
        "defense.layers": ["a", "b"],
        "x.flag": True,
        "none": None,
    }
    work.recorder.begin(samples.experiment(), [samples.run("r1", params=params)])
    found = {row["name"]: row["value"] for row in rows(work, "SELECT name, value FROM run_param")}
    assert found == {
        "attack": "pgd", "attack.poison_fraction": 0.1, "defense.layers[0]": "a", "defense.layers[1]": "b", "x.flag": 1,
    }  # fmt: skip


def test_every_metric_is_a_column(work: Workplace) -> None:
    work.recorder.begin(samples.experiment(), [samples.run("r1")])
    work.recorder.apply(samples.finished("r1", {name: float(i) for i, name in enumerate(views.METRICS)}))
    (row,) = rows(work, "SELECT * FROM run_metrics")
    assert {name: row[views.column(name)] for name in views.METRICS} == {n: i for i, n in enumerate(views.METRICS)}


def test_results_are_found_by_index(work: Workplace) -> None:
    """The columns of one cell come by index from `run` and by key from `metric`, without a scan of either."""
    plan = sql.query(
        work.db, "EXPLAIN QUERY PLAN SELECT * FROM defense_results WHERE dataset='d' AND model='m' AND attack='a'"
    )
    steps = [row[3] for row in plan.rows]
    assert not [step for step in steps if step.startswith("SCAN")]
    assert any("ix_run_cell" in step for step in steps)
