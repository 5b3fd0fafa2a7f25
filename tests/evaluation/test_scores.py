from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from safedl.catalog import Measure
from safedl.evaluation import scores
from safedl.evaluation.scores import SCORE_VERSION, Scores, final_score, score, undefended

CLASSES = {f"clean_accuracy.{c}": 0.98 for c in range(10)}
BASELINE = {"clean_accuracy": 0.98, "seconds": 30.0, "test_images": 1000.0, **CLASSES}
PATCHED = {"clean_accuracy": 0.97, "asr": 0.99, "seconds": 31.0}
unit = st.floats(0, 1)
measures = st.sampled_from(["asr", "accuracy", "adversarial"])


def defended(**metrics: float | None) -> Scores:
    return score("asr", BASELINE, PATCHED, {"clean_accuracy": 0.97, "asr": 0.99, "seconds": 10.0, **metrics})


# Figures that the published framework prints; its accuracies are in percent of CIFAR-10.
@pytest.mark.parametrize(
    ("mitigation", "accuracy", "cost", "final"),
    [
        ((67.54, 54.88, 63.42), (54.88, 63.42), 0.5, 0.734),  # robust_loss
        ((67.54, 54.88, 62.51), (54.88, 62.51), 0.2, 0.696),  # data_cleaning
        ((67.54, 54.88, 36.53), (54.88, 36.53), 0.7, -0.959),  # dp_training
        ((67.54, 62.76, 65.50), (62.76, 65.50), 0.5, 0.636),  # influence_functions
        ((67.54, 62.76, 65.44), (62.76, 65.44), 0.5, 0.626),  # provenance_tracking
    ],
)
def test_published_figures_for_poisoning(
    mitigation: tuple[float, float, float], accuracy: tuple[float, float], cost: float, final: float
) -> None:
    reduced = scores.published_poisoning_mitigation(*mitigation)
    found = scores.published_final(reduced, scores.published_cad(*accuracy), cost)
    assert found == pytest.approx(final, abs=6e-4)


def test_published_figure_for_a_backdoor() -> None:
    mitigation = scores.published_asr_mitigation(0.923, 0.5161)
    assert scores.published_final(mitigation, scores.published_cad(66.62, 67.33), 0.4) == pytest.approx(0.533, abs=6e-4)


def test_published_mitigation_of_evasion_and_the_published_fault() -> None:
    assert scores.published_evasion_mitigation(0.2, 0.6) == pytest.approx(0.5)
    assert scores.published_final(0.0, scores.published_cad(0.9, 0.9), 0.2) == pytest.approx(0.196, abs=1e-3)


def test_a_perfect_defense_for_free_scores_one() -> None:
    assert defended(asr=0.0, seconds=0.0).final == 1.0


def test_a_worked_case() -> None:
    found = defended(asr=0.099, clean_accuracy=0.883, seconds=10.0)
    assert found.mitigation == pytest.approx(0.9)
    assert found.cad == pytest.approx((0.883 - 0.1) / (0.97 - 0.1))
    assert found.cost == pytest.approx(0.25)
    assert found.final == pytest.approx((1.9 * 0.9 - 1) / 1.025)
    assert found.version == SCORE_VERSION
    assert found.as_metrics()["score.final"] == found.final


def test_the_row_none_and_a_defense_that_does_nothing_score_zero() -> None:
    assert undefended("asr", BASELINE, PATCHED) == Scores(0.0, 1.0, 0.0, 0.0)
    assert defended(seconds=1000.0).final == 0.0


@pytest.mark.parametrize("asr", [0.0, 0.5, 1.0])
def test_a_destroyed_model_scores_below_doing_nothing(asr: float) -> None:
    found = defended(asr=asr, clean_accuracy=0.1)
    assert found.final == -1.0


def test_a_destroyed_model_of_two_classes_scores_below_doing_nothing() -> None:
    baseline = {"clean_accuracy": 0.98, "seconds": 1.0, "clean_accuracy.a": 0.98, "clean_accuracy.b": 0.98}
    found = score("asr", baseline, PATCHED, {"clean_accuracy": 0.52, "asr": 0.0, "seconds": 1.0})
    assert found.final is not None
    assert found.final < -0.9


def test_an_attack_without_effect_ranks_nothing() -> None:
    weak = {**PATCHED, "asr": 0.3}
    assert score("asr", BASELINE, weak, {**weak, "asr": 0.0}) == Scores(None, 1.0, 31 / 61, None)
    assert undefended("accuracy", BASELINE, {**PATCHED, "clean_accuracy": 0.975}).final is None


def test_accuracy_lost_under_poisoning_is_counted_once() -> None:
    poisoned = {"clean_accuracy": 0.9, "seconds": 30.0}
    found = score("accuracy", BASELINE, poisoned, {"clean_accuracy": 0.82, "seconds": 30.0})
    assert found.mitigation == -1.0
    assert found.final == pytest.approx(0.72 / 0.8 - 1)


def test_a_gain_in_accuracy_over_the_attacked_model_is_mitigation_not_cad() -> None:
    poisoned = {"clean_accuracy": 0.9, "seconds": 30.0}
    found = score("accuracy", BASELINE, poisoned, {"clean_accuracy": 0.94, "seconds": 0.0})
    assert (found.mitigation, found.cad, found.final) == pytest.approx((0.5, 1.0, 0.5))


@pytest.mark.parametrize("missing", ["clean_accuracy", "asr", "seconds"])
def test_what_was_not_measured_has_no_final_score(missing: str) -> None:
    assert defended(**{missing: None}).final is None


def metrics(accuracy: float, harm: float, seconds: float) -> dict[str, float]:
    return {"clean_accuracy": accuracy, "asr": harm, "adversarial_accuracy": harm, "seconds": seconds}


@given(measures, st.integers(0, 12), *[unit] * 5, st.floats(0, 1e6), st.floats(0, 1e6))
def test_every_score_stays_in_its_range(
    measure: Measure, classes: int, clean: float, before: float, after: float, harm: float, left: float,
    training: float, extra: float,
) -> None:  # fmt: skip
    baseline = {**metrics(clean, 0.0, training), **{f"clean_accuracy.{c}": clean for c in range(classes)}}
    found = score(measure, baseline, metrics(before, harm, training), metrics(after, left, extra))
    for value, low in ((found.mitigation, -1), (found.cad, 0), (found.cost, 0), (found.final, -1)):
        assert value is None or low <= value <= 1
    none = undefended(measure, baseline, metrics(before, harm, training))
    assert none.final in (None, 0.0)
    assert (none.final is None) == (found.final is None)


@given(measures, *[unit] * 7)
def test_better_outcomes_never_score_lower(
    measure: Measure, clean: float, before: float, harm: float, a: float, b: float, c: float, d: float
) -> None:
    (worse, better), (low, high) = sorted((a, b)), sorted((c, d))
    if measure == "asr":
        low, high = high, low  # a lower ASR is better
    attacked = metrics(before, harm, 30.0)
    first = score(measure, BASELINE | {"clean_accuracy": clean}, attacked, metrics(worse, low, 9.0)).final
    second = score(measure, BASELINE | {"clean_accuracy": clean}, attacked, metrics(better, high, 9.0)).final
    assume(first is not None and second is not None)
    assert second is not None and first is not None
    assert second >= first - 1e-12


@given(st.floats(-1, 1), unit, unit, unit)
def test_a_higher_cost_never_pays(mitigation: float, cad: float, a: float, b: float) -> None:
    cheap, dear = sorted((a, b))
    assert final_score(mitigation, cad, dear) <= final_score(mitigation, cad, cheap)


@pytest.mark.parametrize("name", ["clean_accuracy", "asr"])
def test_the_score_has_no_jumps(name: str) -> None:
    steps = [i / 1000 for i in range(1001)]
    values: list[Any] = [defended(**{name: value}).final for value in steps]
    assert max(abs(b - a) for a, b in pairwise(values)) < 0.01
    assert len(set(values)) > 900 if name == "asr" else len(set(values)) > 800


def test_a_model_that_guesses_gains_nothing_where_the_attacked_one_guessed_too() -> None:
    guessing = {**PATCHED, "clean_accuracy": 0.1}
    assert score("asr", BASELINE, guessing, {"clean_accuracy": 0.1, "asr": 0.0, "seconds": 1.0}).final == 0.0
    better = score("asr", BASELINE, guessing, {"clean_accuracy": 0.9, "asr": 0.0, "seconds": 1.0}).final
    assert better is not None and better > 0.9


def test_a_defense_that_makes_a_backdoor_worse_has_a_score_below_zero() -> None:
    attacked = {**PATCHED, "asr": 0.6}
    found = score("asr", BASELINE, attacked, {**attacked, "asr": 0.9, "seconds": 0.0})
    assert (found.mitigation, found.final) == pytest.approx((-0.5, -0.5))
