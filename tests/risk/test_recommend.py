from __future__ import annotations

from dataclasses import replace

from safedl.catalog.defense_tags import Tag
from safedl.risk.assess import RiskAssessment
from safedl.risk.recommend import Evidence, recommend

PRIOR = (
    Tag("fine_pruning", "removes silent units"),
    Tag("activation_clustering", "poison clusters"),
    Tag("spectral_signatures", "poison shows"),
    Tag("model_inspection", "looks at weights"),
)


def risk(effective: bool = True) -> RiskAssessment:
    return RiskAssessment("static_patch", "backdoor", 0.9, 1.0, 0.5, 1.35, effective, True, ("It worked.",))


def seen(defense: str, score: float, seeds: int = 3) -> Evidence:
    return Evidence(defense, "digits", "cnn", score, score, seeds, (f"{defense}-run",))


def names(*evidence: Evidence) -> list[str]:
    return [r.defense for r in recommend(risk(), PRIOR, evidence).recommended]


def test_prior_knowledge_orders_what_was_not_measured() -> None:
    advice = recommend(risk(), PRIOR)
    order = ["fine_pruning", "activation_clustering", "spectral_signatures", "model_inspection"]
    assert [r.defense for r in advice.recommended] == order
    assert advice.recommended[0].reason == "not measured yet; removes silent units"


def test_measurements_come_first_and_are_named() -> None:
    advice = recommend(risk(), PRIOR, [seen("activation_clustering", 0.4), seen("spectral_signatures", 0.9)])
    assert [r.defense for r in advice.recommended[:2]] == ["spectral_signatures", "activation_clustering"]
    first = advice.recommended[0]
    assert first.reason == "measured on digits / cnn, 3 seeds: score 0.900, mitigation 0.900"
    assert first.evidence is not None
    assert first.evidence.runs == ("spectral_signatures-run",)


def test_what_was_measured_and_does_not_help_is_not_recommended() -> None:
    advice = recommend(risk(), PRIOR, [seen("fine_pruning", -0.2), seen("activation_clustering", 0.0)])
    assert "fine_pruning" not in [r.defense for r in advice.recommended]
    assert [r.defense for r in advice.unhelpful] == ["activation_clustering", "fine_pruning"]


def test_the_row_with_more_seeds_counts() -> None:
    assert names(seen("fine_pruning", 0.9, seeds=1), seen("fine_pruning", -0.1, seeds=3))[0] == "activation_clustering"
    assert names(seen("fine_pruning", -0.1, seeds=3), seen("fine_pruning", 0.9, seeds=1))[0] == "activation_clustering"


def test_an_attack_that_did_not_work_carries_no_recommendation() -> None:
    advice = recommend(risk(effective=False), PRIOR, [seen("fine_pruning", 0.9)])
    assert advice.recommended == ()
    assert advice.unhelpful == ()


def test_what_only_diagnoses_comes_last_and_is_never_called_unhelpful() -> None:
    prior = (Tag("per_class_monitoring", "shows classes"), Tag("data_cleaning", "finds labels"), *PRIOR[1:3])
    advice = recommend(risk(), prior, [seen("per_class_monitoring", 0.0), seen("data_cleaning", 0.5)])
    assert advice.recommended[0].defense == "data_cleaning"
    assert advice.recommended[-1].defense == "per_class_monitoring"
    assert advice.recommended[-1].reason == "diagnoses only; shows classes"
    assert advice.unhelpful == ()


def test_what_was_measured_under_the_same_settings_counts_first() -> None:
    elsewhere = replace(seen("fine_pruning", 0.9, seeds=9), same=False)
    advice = recommend(risk(), PRIOR, [elsewhere, seen("fine_pruning", -0.1, seeds=1)])
    assert [r.defense for r in advice.unhelpful] == ["fine_pruning"]
    alone = recommend(risk(), PRIOR, [elsewhere]).recommended[0]
    assert "digits / cnn, attack or training set otherwise, 9 seeds" in alone.reason
