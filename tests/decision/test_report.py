from __future__ import annotations

from dataclasses import replace
from typing import Any

from safedl.catalog.settings import AcceptanceSettings
from safedl.decision.answers import Answer
from safedl.decision.decide import decide
from safedl.decision.facts import ProfileFacts
from safedl.decision.report import Pictures, final_report
from tests.decision.conftest import MENDED, make_facts

LIMITS = AcceptanceSettings()
ORDER = [
    "System", "Threat profile", "Attack results", "Risk matrix", "Defenses and scores", "Best defense per attack",
    "Attacks that no defense helped against", "Residual risk", "Decision", "Deployment checklist",
]  # fmt: skip


def written(facts: ProfileFacts, **kwargs: Any) -> str:
    answers = {"drift": Answer(done=True, owner="a|b", note="<i>x</i>")}
    system = {"data set": "digits", "model": "cnn"}
    return final_report(
        facts, decide(facts, LIMITS, answers), LIMITS, system, lambda u: f"runs/{u}/report.md", **kwargs
    )


def lines_of(text: str, heading: str) -> list[str]:
    body = text.split(f"## {heading}\n", 1)[1].split("\n## ", 1)[0]
    return [line for line in body.splitlines() if line.startswith("| ")]


def test_the_order_of_the_report(facts: ProfileFacts) -> None:
    text = written(facts)
    assert [line[3:] for line in text.splitlines() if line.startswith("## ")] == ORDER
    assert text.splitlines()[2] == "**GO**"


def test_every_row_of_figures_links_to_its_run(facts: ProfileFacts) -> None:
    text = written(facts)
    for heading in ("Attack results", "Defenses and scores", "Best defense per attack", "Residual risk"):
        rows = [line for line in lines_of(text, heading)[2:] if not line.startswith("| ---")]
        assert rows, heading
        for row in rows:
            assert "](runs/u-" in row, row
    assert "0.980 ([u-base](runs/u-base/report.md))" in text


def test_what_no_defense_helped_against_is_named() -> None:
    helped = written(make_facts())
    assert "## Attacks that no defense helped against\n\nNone." in helped
    blocked = written(make_facts({**MENDED, "clean_accuracy": 0.3}))
    assert "## Attacks that no defense helped against\n\n- static_patch" in blocked
    assert blocked.splitlines()[2] == "**NO-GO**"
    assert "above the limit" in blocked


def test_an_attack_without_effect_is_said_to_have_none(facts: ProfileFacts) -> None:
    row = next(line for line in lines_of(written(facts), "Attack results") if "label_flipping" in line)
    assert "Attack not effective" in row
    assert "| 0.978 | - | - |" in row
    assert all("label_flipping" not in line for line in lines_of(written(facts), "Residual risk"))


def test_pictures_and_answers(facts: ProfileFacts) -> None:
    text = written(facts, pictures=Pictures("matrix.png", {"static_patch": "plot.png"}, {"static_patch": "bars.png"}))
    for picture in ("matrix.png", "plot.png", "bars.png"):
        assert f"]({picture})" in text
    row = next(line for line in text.splitlines() if line.startswith("| Drift "))
    assert "a&#124;b" in row
    assert "<i>" not in row


def test_what_people_wrote_is_whole_and_a_waiver_names_its_owner(facts: ProfileFacts) -> None:
    note, reason, source = ("word " * 300 + f"end of the {name}" for name in ("note", "reason", "source"))
    answers = {
        "drift": Answer(done=True, owner="Ada", note=note),
        "residual_risk": Answer(waiver=reason, owner="Grace Hopper"),
    }
    strict = AcceptanceSettings(max_residual_risk=0.0)
    told = replace(facts, threat_model={**facts.threat_model, "application": source})
    text = final_report(told, decide(told, strict, answers), strict, {}, lambda u: f"runs/{u}/report.md")
    assert "**GO**" in text
    assert text.count("end of the reason") == 2  # in the reasons and in the checklist
    assert "end of the note" in text and "end of the source" in text
    row = next(line for line in text.splitlines() if line.startswith("| No residual risk"))
    assert "| Grace Hopper | word" in row


def test_a_limit_that_is_met_exactly_is_met_in_the_table_too(facts: ProfileFacts) -> None:
    """0.5 + 1e-16 is what (0.165 - 0.015) / 0.3 gives in floating point."""
    patched, *others = facts.outcomes
    left = replace(patched, residual=replace(patched.residual, risk_score=0.5 + 1.2e-16))
    met = replace(facts, outcomes=(left, *others))
    limits = AcceptanceSettings(max_residual_risk=0.5)
    assert decide(met, limits, {}).go
    (row,) = (line for line in lines_of(written(met), "Residual risk") if "static_patch" in line)
    assert "| within |" in row


def test_names_from_outside_stay_harmless(facts: ProfileFacts) -> None:
    text = written(replace(facts, profile="x\n<script>", skipped=("evasion.[fgsm](http://x) is not simulated",)))
    assert "<script>" not in text
    assert "\n- evasion.\\[fgsm\\](http" in text
