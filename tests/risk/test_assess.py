from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from safedl.catalog import Category, Measure
from safedl.risk.assess import (
    MeasuredAttack,
    accuracy_severity,
    assess,
    backdoor_severity,
    band,
    level,
    probability,
    ranked,
    risk_score,
    visibility,
    worst,
)
from safedl.risk.effect import effect, measure_of, noise

BASELINE = {"clean_accuracy": 0.98, "test_images": 500.0}
WHITE_BOX = {"model_access": "white-box", "training_data_source": "external_public"}
unit = st.floats(0, 1)


def backdoor(**metrics: float | None) -> MeasuredAttack:
    measured = {"clean_accuracy": 0.97, "asr": 0.99, "poison_rate": 0.05, "trigger_area": 0.0225, **metrics}
    return MeasuredAttack("static_patch", "backdoor", "asr", measured, {"label_mode": "corrupted"}, ("r1",))


def fgsm(after: float, linf: float = 0.03) -> MeasuredAttack:
    return MeasuredAttack("fgsm", "evasion", "adversarial", {"adversarial_accuracy": after, "perturbation_linf": linf})


def test_the_published_example() -> None:
    assert risk_score(severity=0.95, probability=1.0, visibility=0.2) == pytest.approx(1.71)


def test_the_published_example_from_measurements() -> None:
    risk = assess(fgsm(after=0.98 - 0.285), BASELINE, {"model_access": "white-box"})
    assert (risk.severity, risk.probability, risk.visibility) == pytest.approx((0.95, 1.0, 0.2))
    assert risk.risk_score == pytest.approx(1.71)
    assert risk.level == "critical"


@pytest.mark.parametrize(("clean", "attacked", "expected"), [(0.9, 0.75, 0.5), (0.9, 0.3, 1.0), (0.9, 0.95, 0.0)])
def test_severity_of_lost_accuracy(clean: float, attacked: float, expected: float) -> None:
    assert accuracy_severity(clean, attacked) == pytest.approx(expected)


def test_a_backdoor_is_not_charged_with_the_models_own_errors() -> None:
    assert backdoor_severity(asr=0.0, clean=0.62, attacked=0.62) == 0.0
    assert backdoor_severity(asr=0.3, clean=0.9, attacked=0.8) == pytest.approx(0.4)
    assert backdoor_severity(asr=0.98, clean=0.9, attacked=0.8) == 1.0


@pytest.mark.parametrize(
    ("category", "threat_model", "expected"),
    [
        ("evasion", {"model_access": "white-box"}, 1.0),
        ("evasion", {"model_access": "gray_box"}, 0.9),
        ("evasion", {"model_access": "black-box"}, 0.8),
        ("evasion", {}, 1.0),
        ("evasion", {"model_access": "black-box", "interface_exposed": "none"}, 0.4),
        ("backdoor", {"model_access": "black-box", "interface_exposed": "none"}, 0.8),
        ("backdoor", {"model_access": "white-box", "training_data_source": "internal_clean"}, 0.5),
        ("evasion", {"model_access": "white-box", "training_data_source": "internal_clean"}, 1.0),
    ],
)
def test_probability_follows_the_threat_profile(
    category: Category, threat_model: dict[str, str], expected: float
) -> None:
    assert probability(category, threat_model)[0] == pytest.approx(expected)


def test_visibility_of_mislabelled_poison_is_the_chance_to_meet_one() -> None:
    flips = MeasuredAttack("label_flipping", "data_poisoning", "accuracy", {"poison_rate": 0.08})
    assert visibility(flips)[0] == pytest.approx(1 - 0.92**20)


def test_visibility_of_a_clean_label_change_shrinks_with_the_change() -> None:
    measured = {"poison_rate": 0.1, "perturbation_linf": 0.03}
    quiet = MeasuredAttack("clean_label", "data_poisoning", "accuracy", measured)
    assert visibility(quiet)[0] == pytest.approx(1 - (1 - 0.1 * 0.2) ** 20)


def test_visibility_of_a_backdoor_is_its_plainer_trace() -> None:
    rare = backdoor(poison_rate=0.001, trigger_area=0.04, trigger_opacity=1.0)
    assert visibility(rare)[0] == pytest.approx(0.2 / 0.5)
    blended = backdoor(poison_rate=0.001, trigger_area=0.04, trigger_opacity=0.25)
    assert visibility(blended)[0] == pytest.approx(0.1 / 0.5)
    assert visibility(backdoor())[0] == pytest.approx(1 - 0.95**20)


def test_visibility_takes_the_measurement_before_the_parameter() -> None:
    attack = MeasuredAttack("pgd", "evasion", "adversarial", {"perturbation_linf": 0.06}, {"epsilon": 0.15})
    assert visibility(attack)[0] == pytest.approx(0.4)
    assert visibility(MeasuredAttack("pgd", "evasion", "adversarial", {}, {"epsilon": 0.15}))[0] == 1.0
    assert visibility(MeasuredAttack("cw", "evasion", "adversarial", {}))[0] == 0.0


def test_a_faint_trigger_over_the_whole_image_counts_by_its_opacity() -> None:
    faint = backdoor(poison_rate=0.0, trigger_area=1.0, trigger_opacity=0.9, trigger_pixels=64.0, trigger_l1=64 * 0.01)
    assert visibility(faint)[0] == pytest.approx(0.1 / 0.5)


def test_reasons_explain_every_value() -> None:
    risk = assess(backdoor(), BASELINE, WHITE_BOX)
    assert risk.effective
    starts = [reason.split()[0] for reason in risk.reasons]
    assert starts == ["The", "Severity", "Probability", "Visibility"]
    assert f"{risk.severity:.2f}" in risk.reasons[1]
    assert risk.runs == ("r1",)


def test_an_attack_that_did_not_work_says_so() -> None:
    risk = assess(backdoor(asr=0.03), BASELINE, WHITE_BOX)
    assert risk.measured
    assert not risk.effective
    assert risk.reasons[0].startswith("Attack not effective: ASR 0.030")


@pytest.mark.parametrize("missing", ["asr", "clean_accuracy"])
def test_a_missing_metric_gives_no_severity(missing: str) -> None:
    risk = assess(backdoor(**{missing: None}), BASELINE, WHITE_BOX)
    assert risk.severity == 0.0
    if missing == "asr":
        assert not risk.measured
        assert not risk.effective


def test_privacy_attacks_are_not_measured() -> None:
    attack = MeasuredAttack("membership_inference", "privacy", "privacy", {"auroc": 0.9})
    assert not assess(attack, BASELINE, WHITE_BOX).measured


def test_noise_is_the_interval_of_a_difference() -> None:
    assert noise(0.9, 0.9, 1000) == pytest.approx(1.96 * math.sqrt(2 * 0.9 * 0.1 / 1000))
    assert noise(0.9, 0.9, None) == 0.02


@pytest.mark.parametrize(("after", "worked"), [(0.97, False), (0.95, True)])
def test_a_fall_in_accuracy_counts_beyond_noise(after: float, worked: bool) -> None:
    assert effect("accuracy", BASELINE, {"clean_accuracy": after}).effective is worked


def test_a_lower_accuracy_does_not_make_a_backdoor_work() -> None:
    assert not effect("asr", BASELINE, {"clean_accuracy": 0.5, "asr": 0.49}).effective
    assert effect("asr", BASELINE, {"clean_accuracy": 0.98, "asr": 0.5}).effective


def test_an_attack_that_left_the_catalog_is_measured_by_its_category() -> None:
    assert measure_of("static_patch", "backdoor") == "asr"
    assert measure_of("gone", "evasion") == "adversarial"


@given(
    st.sampled_from([("accuracy", "data_poisoning"), ("asr", "backdoor"), ("adversarial", "evasion")]),
    unit, unit, unit, unit, unit, unit,
    st.sampled_from(["white-box", "black-box", "gray-box", "?"]),
)  # fmt: skip
def test_every_value_stays_in_its_range(
    kind: tuple[Measure, Category], clean: float, after: float, asr: float, rate: float, area: float, linf: float,
    access: str,
) -> None:  # fmt: skip
    metrics = {
        "clean_accuracy": after, "adversarial_accuracy": after, "asr": asr, "poison_rate": rate,
        "trigger_area": area, "perturbation_linf": linf,
    }  # fmt: skip
    risk = assess(MeasuredAttack("a", kind[1], kind[0], metrics), {"clean_accuracy": clean}, {"model_access": access})
    assert 0 <= risk.severity <= 1
    assert 0 <= risk.probability <= 1
    assert 0 <= risk.visibility <= 1
    assert 0 <= risk.risk_score <= 2


@given(unit, unit, unit, unit)
def test_risk_rises_with_severity_and_falls_with_visibility(a: float, b: float, p: float, v: float) -> None:
    low, high = sorted((a, b))
    assert risk_score(low, p, v) <= risk_score(high, p, v)
    assert risk_score(v, p, high) <= risk_score(v, p, low)


def test_words_for_numbers() -> None:
    assert [level(s) for s in (0.0, 0.5, 1.0, 1.5)] == ["low", "medium", "high", "critical"]
    assert [band(v) for v in (0.0, 0.5, 0.9)] == ["low", "medium", "high"]


def test_a_level_begins_where_its_figure_is_shown() -> None:
    """A fall of 15 points is half of the full one, and one of 20 two thirds, though floats fall short of that."""
    half, two_thirds = accuracy_severity(0.95, 0.8), accuracy_severity(0.95, 0.75)
    assert half < 0.5 and two_thirds < 2 / 3
    assert level(risk_score(half, 1.0, 1.0)) == "medium"
    assert band(two_thirds) == "high"


def test_ranking_puts_what_worked_first() -> None:
    strong, weak = assess(backdoor(), BASELINE, WHITE_BOX), assess(backdoor(asr=0.45), BASELINE, WHITE_BOX)
    evasion = assess(fgsm(0.9), BASELINE, {"model_access": "black-box"})
    assert evasion.risk_score < weak.risk_score < strong.risk_score
    assert ranked((weak, evasion, strong)) == (strong, evasion, weak)


def test_the_gravest_seed_may_be_one_below_the_success_rate_that_counts() -> None:
    took_hold, ruined = backdoor(asr=0.5), backdoor(asr=0.45, clean_accuracy=0.68)
    found = worst([assess(attack, BASELINE, WHITE_BOX) for attack in (took_hold, ruined)])
    assert found.effective
    assert found.severity == pytest.approx(0.45 + 0.3)
    assert "the worst of 2 seeds, effective on 1" in found.reasons[0]
