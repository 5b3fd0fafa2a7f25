"""What Module 3 writes: `risk_analysis.json`, `risk_report.md` and the profile's section `risk_analysis`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from safedl.reports.links import RunLink, runs
from safedl.reports.markdown import Markup, blocks, bullets, escape, image, section, table
from safedl.risk.assess import Band, RiskAssessment, band, ranked
from safedl.risk.recommend import Advice, Recommendation

_BANDS: tuple[Band, ...] = ("high", "medium", "low")


@dataclass(frozen=True)
class RiskPoint:
    """The risk of a profile as one experiment found it: `scores` by attack, each in [0, 2]."""

    at: str
    experiment: str
    scores: Mapping[str, float]


def risk_analysis(assessments: Sequence[RiskAssessment], advice: Mapping[str, Advice]) -> dict[str, Any]:
    """Return the content of `risk_analysis.json`: one object per attack, the highest risk first."""
    return {
        a.attack: {
            "category": a.category,
            "severity": a.severity,
            "probability": a.probability,
            "visibility": a.visibility,
            "risk_score": a.risk_score,
            "level": a.level,
            "effective": a.effective,
            "measured": a.measured,
            "reasons": list(a.reasons),
            "recommendations": [_recommendation(r) for r in _advice(advice, a).recommended],
            "measured_without_help": [_recommendation(r) for r in _advice(advice, a).unhelpful],
            "runs": list(a.runs),
        }
        for a in ranked(assessments)
    }


def profile_section(assessments: Sequence[RiskAssessment], advice: Mapping[str, Advice]) -> dict[str, Any]:
    """Return the profile's section `risk_analysis`, in the published framework's shape.

    `summary: {attack: {probability, risk_score, severity, visibility}}`, `recommendations: {attack: [defense, ...]}`;
    an attack that did not work has a summary and no recommendation.
    """
    ordered = ranked(assessments)
    return {
        "recommendations": {
            a.attack: [r.defense for r in advice[a.attack].recommended]
            for a in ordered
            if a.effective and a.attack in advice
        },
        "summary": {
            a.attack: {
                "probability": round(a.probability, 4),
                "risk_score": round(a.risk_score, 4),
                "severity": round(a.severity, 4),
                "visibility": round(a.visibility, 4),
            }
            for a in ordered
        },
    }


def risk_report(
    profile: str,
    assessments: Sequence[RiskAssessment],
    advice: Mapping[str, Advice],
    link: RunLink,
    history: Sequence[RiskPoint] = (),
    picture: str | None = None,
) -> Markup:
    """Return `risk_report.md`: matrix, ranking, why, recommendations, history. `picture`: path of a plotted matrix."""
    ordered = ranked(assessments)
    return blocks(
        f"# Risk analysis of {escape(profile)}",
        section("Risk matrix", risk_matrix(ordered), image("Risk matrix", picture) if picture else ""),
        section("Ranking", risk_ranking(ordered, link), f"Formula: {FORMULA}."),
        section("Why", *(section(a.attack, bullets(a.reasons), level=3) for a in ordered)),
        section("Recommendations", *(_advised(a, _advice(advice, a), link) for a in ordered)),
        section("History", _history(history)),
    )


FORMULA = (
    "severity × probability × (1 + (1 − visibility)), from 0 to 2; critical from 1.5, high from 1.0, medium from 0.5"
)


def risk_matrix(assessments: Sequence[RiskAssessment]) -> Markup:
    """Return the attacks that worked in a table of severity (columns) by probability (rows), in thirds of [0, 1]."""
    cells: dict[tuple[Band, Band], list[str]] = {}
    for a in assessments:
        if a.effective:
            cells.setdefault((band(a.probability), band(a.severity)), []).append(a.attack)
    columns = tuple(reversed(_BANDS))
    rows = [[f"{row} probability", *(", ".join(cells.get((row, c), [])) or None for c in columns)] for row in _BANDS]
    return table(["", *(f"{c} severity" for c in columns)], rows)


def risk_ranking(assessments: Sequence[RiskAssessment], link: RunLink) -> Markup:
    """Return the table of all attacks with their values; one that did not work has no level."""
    header = ["attack", "category", "severity", "probability", "visibility", "risk score", "level", "runs"]
    return table(
        header,
        [
            [
                a.attack,
                a.category,
                a.severity,
                a.probability,
                a.visibility,
                a.risk_score,
                verdict(a),
                runs(a.runs, link),
            ]
            for a in assessments
        ],
    )


def verdict(assessment: RiskAssessment) -> str:
    """Return the level of an attack's risk, or why it has none."""
    if not assessment.measured:
        return "not measured"
    return assessment.level if assessment.effective else "attack not effective"


def _advice(advice: Mapping[str, Advice], assessment: RiskAssessment) -> Advice:
    return advice.get(assessment.attack, Advice(assessment.attack))


def _recommendation(item: Recommendation) -> dict[str, Any]:
    found = item.evidence
    return {
        "defense": item.defense,
        "reason": item.reason,
        "score": found.score if found else None,
        "mitigation": found.mitigation if found else None,
        "seeds": found.seeds if found else 0,
        "runs": list(found.runs) if found else [],
    }


def _advised(assessment: RiskAssessment, advice: Advice, link: RunLink) -> Markup:
    if not assessment.effective:
        why = "did not work" if assessment.measured else "was not measured"
        return section(assessment.attack, f"None: the attack {why}, so there is nothing to defend against.", level=3)
    header = ["defense", "reason", "runs"]
    rows = [[r.defense, r.reason, runs(r.evidence.runs if r.evidence else (), link)] for r in advice.recommended]
    useless = [[r.defense, r.reason, runs(r.evidence.runs if r.evidence else (), link)] for r in advice.unhelpful]
    return section(
        assessment.attack,
        table(header, rows),
        Markup(f"Measured, and of no help:\n\n{table(header, useless)}") if useless else "",
        level=3,
    )


def _history(history: Sequence[RiskPoint]) -> Markup:
    if not history:
        return Markup("")
    attacks = sorted({name for point in history for name in point.scores})
    rows = [[p.at, p.experiment, *(p.scores.get(name) for name in attacks)] for p in history]
    return table(["when", "experiment", *attacks], rows)
