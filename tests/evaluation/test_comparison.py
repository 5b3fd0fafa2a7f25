from __future__ import annotations

import json

import pytest

from safedl.catalog import Category
from safedl.evaluation.comparison import Ranking, Result, compare
from safedl.evaluation.documents import defense_evaluation, defense_evaluation_report, marks
from safedl.evaluation.scores import score, undefended
from safedl.risk.effect import Metrics

BASELINE: Metrics = {"clean_accuracy": 0.98, "seconds": 30.0, "test_images": 1000.0}
ASR = {
    "activation_clustering": (0.02, 0.04, 0.03),
    "spectral_signatures": (0.05, 0.01, 0.04),
    "pruning": (0.5, 0.55, 0.6),
}


def result(defense: str, seed: int, metrics: Metrics, before: Metrics, kind: str = "defense", **other: str) -> Result:
    return Result(
        uid=f"{defense}-{seed}",
        kind=kind,  # type: ignore[arg-type]
        dataset=other.get("dataset", "digits"),
        model="cnn",
        category="backdoor",
        attack="static_patch",
        defense=defense,
        seed=seed,
        recipe=defense,
        attack_recipe=other.get("attack_recipe", "a"),
        metrics=metrics,
        before=before,
        baseline=BASELINE,
    )


def rows(asr: float = 0.99) -> list[Result]:
    found = []
    for seed in range(3):
        attacked = {"clean_accuracy": 0.97, "asr": asr, "seconds": 31.0}
        scored = {**attacked, **undefended("asr", BASELINE, attacked).as_metrics()}
        found.append(result("none", seed, scored, {}, kind="attack"))
        for defense, after in ASR.items():
            accuracy = 0.97 if defense == "activation_clustering" else 0.96
            own = {"clean_accuracy": accuracy, "asr": after[seed], "seconds": 10.0}
            found.append(result(defense, seed, {**own, **score("asr", BASELINE, attacked, own).as_metrics()}, attacked))
        perfect = {"clean_accuracy": 0.98, "asr": 0.0, "seconds": 9.0, "score.final": 0.99}
        found.append(result("perfect_removal", seed, perfect, attacked, kind="bound"))
    return found


@pytest.fixture
def ranking() -> Ranking:
    (only,) = compare(rows())
    return only


def test_the_best_comes_first_with_its_interval(ranking: Ranking) -> None:
    order = [(e.place, e.defense) for e in ranking.entries]
    assert order == [
        (None, "perfect_removal"),
        (1, "activation_clustering"),
        (2, "spectral_signatures"),
        (3, "pruning"),
        (None, "none"),
    ]
    asr = ranking.entries[1].values["asr"]
    assert asr.mean == pytest.approx(0.03)
    assert asr.count == 3
    assert asr.low is not None
    assert ranking.best is ranking.entries[1]
    assert ranking.entries[1].runs == tuple(f"activation_clustering-{s}" for s in range(3))


def test_deltas_are_against_the_undefended_model(ranking: Ranking) -> None:
    pruning = ranking.entries[3]
    assert pruning.deltas["asr"].mean == pytest.approx(0.55 - 0.99)
    assert pruning.deltas["clean_accuracy"].mean == pytest.approx(-0.01)
    assert ranking.undefended is not None
    assert ranking.undefended.deltas == {}
    assert ranking.undefended.mean("score.final") == 0.0


def test_ties_and_pareto_marks(ranking: Ranking) -> None:
    marked = {e.defense: (e.tied_with_best, e.pareto) for e in ranking.entries}
    assert marked == {
        "perfect_removal": (False, False),  # a bound does not compete
        "activation_clustering": (False, True),
        "spectral_signatures": (True, False),  # ahead on one seed, behind on two
        "pruning": (False, False),
        "none": (False, False),  # no more accurate than activation clustering
    }
    (by_asr,) = compare(rows(), by="asr")
    assert [e.defense for e in by_asr.entries if e.place] == list(ASR)
    assert [e.defense for e in by_asr.entries if e.tied_with_best] == ["spectral_signatures"]


def test_equal_means_share_a_place_and_only_the_first_is_best() -> None:
    """As in the leaderboard: what only diagnoses and what found nothing to prune are worth 0 both."""
    attacked = {"clean_accuracy": 0.97, "asr": 0.99, "seconds": 31.0}
    finals = {"a": 0.9, "b": 0.9, "c": 0.2, "d": 0.0, "e": 0.0, "f": -0.1}
    own = {name: {"clean_accuracy": 0.97, "asr": 0.5, "score.final": value} for name, value in finals.items()}
    (ranking,) = compare(result(name, 0, values, attacked) for name, values in own.items())
    assert {e.defense: e.place for e in ranking.entries} == {"a": 1, "b": 1, "c": 3, "d": 4, "e": 4, "f": 6}
    assert ranking.best is ranking.entries[0]
    assert [marks(e).split(",")[0] for e in ranking.entries[:2]] == ["best", "tied with the first"]


def test_an_attack_without_effect_ranks_nothing() -> None:
    (ranking,) = compare(rows(asr=0.3))
    assert not ranking.effective
    assert all(e.place is None and not e.pareto for e in ranking.entries)
    assert ranking.best is None
    assert "effective on 0 of 3 seeds" in ranking.note


def test_an_attack_that_took_hold_on_one_seed_is_effective() -> None:
    runs = []
    for seed, asr in enumerate((0.99, 0.1)):
        own = {"clean_accuracy": 0.97, "asr": 0.0, "score.final": 0.5}
        runs.append(result("pruning", seed, own, {"clean_accuracy": 0.97, "asr": asr}))
    (ranking,) = compare(runs)
    assert ranking.effective and ranking.entries[0].place == 1
    assert "effective on 1 of 2 seeds" in ranking.note


def test_an_attacks_own_run_tells_whether_it_worked() -> None:
    attacked, clean = {"clean_accuracy": 0.97, "asr": 0.99}, {"clean_accuracy": 0.98}
    (ranking,) = compare([result("none", 0, attacked, clean, kind="attack")])
    assert ranking.effective


def test_a_best_that_is_worth_less_than_none_is_no_best() -> None:
    attacked = {"clean_accuracy": 0.97, "asr": 0.99, "seconds": 31.0}
    ruined = {"clean_accuracy": 0.2, "asr": 0.0, "seconds": 5.0}
    own = {**ruined, **score("asr", BASELINE, attacked, ruined).as_metrics()}
    (ranking,) = compare([result("pruning", 0, own, attacked)])
    assert ranking.entries[0].place == 1
    assert ranking.best is None


def test_data_sets_and_attack_parameters_are_kept_apart() -> None:
    attacked = {"clean_accuracy": 0.97, "asr": 0.99}
    cells = [("digits", "a"), ("digits", "b"), ("mnist", "a")]
    found = compare([result("pruning", 0, attacked, attacked, dataset=d, attack_recipe=r) for d, r in cells])
    assert [(r.dataset, r.recipe) for r in found] == cells


def test_a_seed_counts_once_and_the_last_run_counts() -> None:
    attacked = {"clean_accuracy": 0.97, "asr": 0.99}
    runs = [result("pruning", 0, {"asr": value, "score.final": 0.5}, attacked) for value in (0.9, 0.1)]
    (ranking,) = compare(runs)
    assert (ranking.entries[0].values["asr"].mean, ranking.entries[0].values["asr"].count) == (0.1, 1)


@pytest.mark.parametrize("category", ["data_poisoning", "evasion"])
def test_other_categories_rank_by_their_own_harm(category: Category) -> None:
    name = {"data_poisoning": "label_flipping", "evasion": "pgd"}[category]
    attacked = {"clean_accuracy": 0.8 if category == "data_poisoning" else 0.98, "adversarial_accuracy": 0.1}
    metrics = {"clean_accuracy": 0.9, "adversarial_accuracy": 0.6, "score.final": 0.4}
    row = Result("u", "defense", "digits", "cnn", category, name, "d", 0, "r", "a", metrics, attacked, BASELINE)
    (ranking,) = compare([row])
    assert ranking.effective
    assert ranking.entries[0].pareto


def test_the_document_is_category_attack_defense(ranking: Ranking) -> None:
    document = json.loads(json.dumps(defense_evaluation([ranking])))
    found = document["backdoor"]["static_patch"]
    assert set(found) == {*ASR, "none", "perfect_removal"}
    scores = found["activation_clustering"]
    assert scores["final"] == ranking.entries[1].mean("score.final")
    assert scores["final_low"] < scores["final"] < scores["final_high"]
    assert (scores["place"], scores["seeds"], scores["attack_effective"]) == (1, 3, True)
    assert scores["asr_delta"] == pytest.approx(0.03 - 0.99)
    assert (found["none"]["kind"], found["none"]["final"]) == ("undefended", 0.0)
    assert found["perfect_removal"]["place"] is None


def test_the_report_shows_marks_and_links(ranking: Ranking) -> None:
    text = defense_evaluation_report("digits", [ranking], lambda uid: f"runs/{uid}", {"static_patch": "p.png"})
    line = next(line for line in text.splitlines() if "| activation_clustering |" in line)
    assert line.startswith("| 1 |")
    assert "best, Pareto-optimal" in line
    assert "[activation_clustering-0](runs/activation_clustering-0)" in line
    assert "0.030 ± 0.025" in line
    assert "-0.960 ± 0.025" in line
    assert "![Accuracy against ASR under static_patch](p.png)" in text
