from __future__ import annotations

import json

from safedl.catalog.defense_tags import Tag
from safedl.reports.links import runs
from safedl.risk.assess import MeasuredAttack, assess
from safedl.risk.documents import RiskPoint, profile_section, risk_analysis, risk_matrix, risk_report
from safedl.risk.recommend import Evidence, recommend

BASELINE = {"clean_accuracy": 0.98, "test_images": 500.0}
THREATS = {"model_access": "white-box"}
PATCH = assess(
    MeasuredAttack("static_patch", "backdoor", "asr", {"clean_accuracy": 0.97, "asr": 0.9, "poison_rate": 0.05}),
    BASELINE,
    THREATS,
)
DUD = assess(
    MeasuredAttack("clean_label", "data_poisoning", "accuracy", {"clean_accuracy": 0.98}, {}, ("uid2",)),
    BASELINE,
    THREATS,
)
EVIDENCE = [
    Evidence("fine_pruning", "digits", "cnn", 0.8, 0.9, 3, ("uid3",)),
    Evidence("pruning", "digits", "cnn", -0.5, 0.1, 3, ("uid4",)),
]
ADVICE = {
    "static_patch": recommend(PATCH, [Tag("fine_pruning", "x"), Tag("spectral_signatures", "y")], EVIDENCE),
    "clean_label": recommend(DUD, [Tag("provenance_tracking", "z")]),
}


def link(uid: str) -> str:
    return f"runs/{uid}/report.md"


def test_one_object_per_attack_with_its_figures() -> None:
    document = json.loads(json.dumps(risk_analysis([DUD, PATCH], ADVICE)))
    assert list(document) == ["static_patch", "clean_label"]
    patch = document["static_patch"]
    assert patch["risk_score"] == PATCH.risk_score
    assert patch["recommendations"][0] == {
        "defense": "fine_pruning",
        "reason": "measured on digits / cnn, 3 seeds: score 0.800, mitigation 0.900",
        "score": 0.8,
        "mitigation": 0.9,
        "seeds": 3,
        "runs": ["uid3"],
    }
    assert [r["defense"] for r in patch["measured_without_help"]] == ["pruning"]
    assert document["clean_label"]["effective"] is False
    assert document["clean_label"]["recommendations"] == []


def test_the_profiles_section_has_the_published_shape() -> None:
    section = profile_section([PATCH, DUD], ADVICE)
    assert list(section) == ["recommendations", "summary"]
    assert section["recommendations"] == {"static_patch": ["fine_pruning", "spectral_signatures"]}
    assert list(section["summary"]["static_patch"]) == ["probability", "risk_score", "severity", "visibility"]
    assert set(section["summary"]) == {"static_patch", "clean_label"}


def test_the_matrix_places_what_worked() -> None:
    lines = risk_matrix([PATCH, DUD]).splitlines()
    assert lines[2] == "| high probability | - | - | static_patch |"
    assert "clean_label" not in "".join(lines)


def test_the_report_names_evidence_and_history() -> None:
    history = [RiskPoint("2026-01-02", "exp1", {"static_patch": 1.2}), RiskPoint("2026-01-03", "exp2", {"fgsm": 0.4})]
    text = risk_report("digits", [PATCH, DUD], ADVICE, link, history, "matrix.png")
    for heading in ("## Risk matrix", "## Ranking", "## Why", "## Recommendations", "## History"):
        assert heading in text
    assert "[uid3](runs/uid3/report.md)" in text
    assert "nothing to defend against" in text
    assert "Measured, and of no help:" in text
    assert "![Risk matrix](matrix.png)" in text
    assert "| 2026-01-02 | exp1 | - | 1.200 |" in text


def test_names_from_data_stay_harmless() -> None:
    text = risk_report("a\n# <b>|x", [PATCH], ADVICE, link)
    assert "<b>" not in text
    assert text.splitlines()[0].startswith("# Risk analysis of a")
    assert "\n# &lt;b" not in text


def test_without_history_there_is_no_such_section() -> None:
    assert "History" not in risk_report("p", [PATCH], ADVICE, link)


def test_many_runs_are_counted() -> None:
    assert (
        runs([f"u{i}" for i in range(12)], link, limit=2)
        == "[u0](runs/u0/report.md) [u1](runs/u1/report.md) ... (12 in all)"
    )
    assert runs([], link) == "-"
