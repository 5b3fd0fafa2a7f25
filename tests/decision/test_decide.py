from __future__ import annotations

import datetime
from dataclasses import replace
from typing import Any

import pytest

from safedl.catalog.settings import AcceptanceSettings
from safedl.decision.answers import Answer, parse_answers
from safedl.decision.checks import AUTOMATIC, simulations
from safedl.decision.decide import MANUAL, Decision, Item, decide
from safedl.decision.facts import PrivacyBudget, ProfileFacts, SeedOfAttack, mean_metrics, outcome
from safedl.errors import UsageError
from safedl.evaluation.comparison import Result, compare
from safedl.evaluation.scores import score
from safedl.evaluation.worst_case import WorstCase
from safedl.risk.assess import MeasuredAttack, backdoor_severity, risk_score
from safedl.risk.effect import Metrics
from tests.decision.conftest import BASELINE, MENDED, PATCHED, THREATS, make_facts, with_status

LIMITS = AcceptanceSettings()


def item(decision: Decision, id: str) -> Item:
    return next(i for i in decision.checklist if i.id == id)


def judged(facts: ProfileFacts, id: str, **limits: float) -> Item:
    return item(decide(facts, AcceptanceSettings(**limits), {}), id)


def test_a_profile_that_meets_every_threshold_is_a_go(facts: ProfileFacts) -> None:
    decision = decide(facts, LIMITS, {})
    assert decision.go
    assert decision.verdict == "GO"
    statuses = {i.id: i.status for i in decision.checklist if i.automatic}
    assert statuses == {**dict.fromkeys(AUTOMATIC, "pass"), "dp_budget": "not applicable"}
    assert decision.reasons == ("8 automatic checks pass and none fails", "8 manual items still open")


def test_the_residual_risk_is_the_formula_on_the_defended_model(facts: ProfileFacts) -> None:
    patch = facts.outcomes[0]
    severity = backdoor_severity(asr=0.02, clean=0.98, attacked=0.97)
    assert patch.residual.risk_score == pytest.approx(risk_score(severity, 1.0, patch.risk.visibility))
    assert patch.residual.risk_score < 0.1 < patch.risk.risk_score
    assert patch.evidence == ("u-fine",)
    assert patch.best is not None
    assert patch.best.defense == "fine_pruning"


def test_a_defense_worth_less_than_none_leaves_the_undefended_risk() -> None:
    patch = make_facts({**MENDED, "clean_accuracy": 0.3}).outcomes[0]
    assert patch.best is None
    assert patch.residual == patch.risk
    assert patch.evidence == ("u-patch",)


def test_a_defense_that_ruins_the_model_leaves_no_smaller_risk_of_evasion() -> None:
    """Its few right answers fall no further: what was lost to the clean model counts."""
    attacked: Metrics = {"clean_accuracy": 0.98, "adversarial_accuracy": 0.05, "sampled_accuracy": 0.97, "seconds": 1.0}
    ruined: Metrics = {"clean_accuracy": 0.72, "adversarial_accuracy": 0.70, "sampled_accuracy": 0.71, "seconds": 1.0}
    scored = {**ruined, **score("adversarial", BASELINE, attacked, ruined).as_metrics()}
    result = Result(
        "u-smooth", "defense", "digits", "cnn", "evasion", "pgd", "randomized_smoothing", 0, "s", "a", scored,
        attacked, BASELINE,
    )  # fmt: skip
    pgd = MeasuredAttack("pgd", "evasion", "adversarial", {**attacked, "perturbation_linf": 0.03}, {}, ("u-pgd",))
    found = outcome({0: SeedOfAttack(pgd, BASELINE)}, THREATS, compare([result])[0])
    assert found.best is not None
    assert found.residual.severity == pytest.approx((0.97 - 0.70) / 0.3)


def test_an_attack_that_did_not_work_is_not_defended_against(facts: ProfileFacts) -> None:
    """Another attack's ranking, or one of other seeds, does not make its defense the best."""
    weak = MeasuredAttack("static_patch", "backdoor", "asr", {**PATCHED, "asr": 0.4}, {}, ("u-patch",))
    found = outcome({0: SeedOfAttack(weak, BASELINE)}, THREATS, facts.outcomes[0].ranking)
    assert found.best is None
    assert found.residual == found.risk


@pytest.mark.parametrize(
    ("change", "failing"),
    [
        ({"asr": 0.25}, {"max_asr"}),
        ({"asr": 0.6}, {"max_asr", "residual_risk"}),
        ({"clean_accuracy": 0.92}, {"accuracy_drop"}),
        ({"robust_accuracy": 0.2}, {"robust_accuracy"}),
        ({"clean_accuracy": 0.3}, {"max_asr", "residual_risk", "robust_accuracy"}),  # no defense helps
    ],
)
def test_what_passes_a_threshold_blocks(change: dict[str, float], failing: set[str]) -> None:
    decision = decide(make_facts({**MENDED, **change}), LIMITS, {})
    assert not decision.go
    assert {i.id for i in decision.checklist if i.status == "fail"} == failing
    assert len(decision.reasons) == len(failing) + 1


def test_a_reason_names_figure_attack_defense_and_limit() -> None:
    found = judged(make_facts({**MENDED, "asr": 0.25}), "max_asr")
    assert found.detail == "ASR 0.250 (static_patch, after fine_pruning), limit 0.2"
    assert found.evidence == ("u-fine",)


def test_a_limit_that_is_met_exactly_is_met() -> None:
    """0.98 - 0.93 is a little more than 0.05 in floating point."""
    assert judged(make_facts({**MENDED, "clean_accuracy": 0.93}), "accuracy_drop").status == "pass"
    assert judged(make_facts(), "robust_accuracy", min_robust_accuracy=0.95).status == "pass"


def test_a_value_just_beyond_its_limit_is_told_from_it() -> None:
    asr = judged(make_facts({**MENDED, "asr": 0.2004}), "max_asr", max_asr=0.2)
    assert (asr.status, asr.detail) == ("fail", "ASR 0.2004 (static_patch, after fine_pruning), limit 0.2")
    robust = judged(make_facts({**MENDED, "robust_accuracy": 0.29996}), "robust_accuracy", min_robust_accuracy=0.3)
    assert robust.status == "fail"
    assert "0.29996 (static_patch" in robust.detail
    assert "ASR 0.200 (" in judged(make_facts({**MENDED, "asr": 0.2}), "max_asr", max_asr=0.2).detail


def test_a_waiver_is_not_called_a_pass() -> None:
    answer = Answer(waiver="not exposed", owner="eve")
    decision = decide(make_facts({**MENDED, "asr": 0.25}), LIMITS, {"max_asr": answer})
    assert decision.go
    assert decision.reasons[0] == "7 automatic checks pass and none fails without a waiver"


def test_one_model_against_several_attacks_is_judged_by_all_together(facts: ProfileFacts) -> None:
    def under(accuracy: float) -> ProfileFacts:
        case = WorstCase("adversarial_training", {}, 0, ("fgsm", "pgd"), 200, accuracy, 0.0, 1.0, {}, {}, ("u-fine",))
        return replace(facts, together=(case,))

    found = judged(under(0.1), "robust_accuracy", min_robust_accuracy=0.3)
    assert found.status == "fail"
    assert "0.100 (the worst of fgsm, pgd, after adversarial_training)" in found.detail
    assert judged(under(0.4), "robust_accuracy", min_robust_accuracy=0.3).status == "pass"


def test_thresholds_come_from_the_profile(facts: ProfileFacts) -> None:
    assert judged(facts, "max_asr", max_asr=0.02).status == "pass"
    assert judged(facts, "max_asr", max_asr=0.019).status == "fail"
    assert judged(facts, "residual_risk", max_residual_risk=0.001).status == "fail"


@pytest.mark.parametrize(
    ("stage", "failing"),
    [
        ("static_patch/fine_pruning@0", {"runs_completed"}),
        ("label_flipping@0", {"runs_completed", "attacks_run", "threats_covered"}),
    ],
)
def test_a_planned_run_that_did_not_complete_blocks(facts: ProfileFacts, stage: str, failing: set[str]) -> None:
    decision = decide(with_status(facts, stage, "failed"), LIMITS, {})
    assert {i.id for i in decision.checklist if i.status == "fail"} == failing


def test_a_profile_that_was_never_run_is_blocked() -> None:
    empty = ProfileFacts("new", {}, {}, (), ())
    decision = decide(empty, LIMITS, {})
    assert not decision.go
    assert item(decision, "threats_covered").status == "not applicable"
    assert item(decision, "attacks_run").status == "fail"
    assert item(decision, "runs_completed").status == "fail"
    assert item(decision, "max_asr").detail == "no attack of the profile has an ASR"
    assert item(decision, "residual_risk").detail == "no attack of the profile has a residual risk"


def test_a_run_without_versions_blocks(facts: ProfileFacts) -> None:
    planned = (*facts.planned[:-1], replace(facts.planned[-1], data=None))
    found = judged(replace(facts, planned=planned), "versions_recorded")
    assert (found.status, found.detail) == ("fail", "code or data version missing: static_patch/fine_pruning@0")


@pytest.mark.parametrize(("spent", "status"), [(1.98, "pass"), (2.0, "pass"), (2.3, "fail"), (None, "fail")])
def test_the_privacy_budget(facts: ProfileFacts, spent: float | None, status: str) -> None:
    found = judged(replace(facts, budgets=(PrivacyBudget("u-dp", 2.0, spent),)), "dp_budget")
    assert found.status == status
    assert found.evidence == ("u-dp",)


def test_threats_without_a_simulation_are_manual_items(facts: ProfileFacts) -> None:
    decision = decide(facts, LIMITS, {})
    manual = [i.id for i in decision.checklist if not i.automatic]
    assert manual == [*MANUAL, "not_simulated.model_stealing"]
    assert simulations("backdoor_attacks") == ("static_patch", "learned_trigger")
    assert simulations("model_stealing") == ()


def test_a_waiver_lifts_a_failed_check_and_is_told(facts: ProfileFacts) -> None:
    answers = {"max_asr": Answer(waiver="accepted until March", owner="rui")}
    decision = decide(make_facts({**MENDED, "asr": 0.25}), LIMITS, answers)
    assert decision.go
    assert item(decision, "max_asr").status == "waived"
    assert any("waived by rui (accepted until March), although ASR 0.250" in r for r in decision.reasons)
    assert item(decide(facts, LIMITS, answers), "max_asr").status == "pass"  # nothing to lift


def test_done_is_not_enough_for_an_automatic_check() -> None:
    decision = decide(make_facts({**MENDED, "asr": 0.25}), LIMITS, {"max_asr": Answer(done=True, owner="rui")})
    assert not decision.go


def test_manual_items_keep_their_answers_and_never_block(facts: ProfileFacts) -> None:
    answers = parse_answers(
        {
            "drift": {"done": True, "note": "weekly histogram", "owner": "ana", "date": "2026-02-01"},
            "ci_gate": {"waiver": "no pipeline yet", "owner": "rui"},
        },
        "notes.yaml",
    )
    decision = decide(facts, LIMITS, answers)
    assert decision.go
    assert item(decision, "drift").status == "done"
    assert item(decision, "drift").answer == Answer(
        done=True, note="weekly histogram", owner="ana", date=datetime.date(2026, 2, 1)
    )
    assert item(decision, "ci_gate").status == "waived"
    assert not any("no pipeline yet" in reason for reason in decision.reasons)  # nothing failed that it would lift
    assert decision.reasons[-1] == "6 manual items still open"
    assert item(decision, "drift").as_dict()["answer"]["date"] == "2026-02-01"


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({"drift": {"don": True}}, "notes.yaml: drift.don: Extra inputs"),
        ({"drift": "yes"}, "notes.yaml: drift: Input should be"),
        ({"drift": {"date": "soon"}}, "notes.yaml: drift.date: "),
        ({"max_asr": {"waiver": "why not"}}, "notes.yaml: max_asr: Value error, a waiver needs an owner"),
    ],
)
def test_bad_answers_are_refused(document: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match="An answer has: done, note, owner, date, waiver") as caught:
        parse_answers(document, "notes.yaml")
    assert str(caught.value).startswith(message)


def test_means_over_seeds_leave_out_what_was_not_measured() -> None:
    assert mean_metrics([{"asr": 0.9, "x": None}, {"asr": 0.7, "y": 1.0}]) == {"asr": pytest.approx(0.8), "y": 1.0}
