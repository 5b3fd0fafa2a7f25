"""The final report: from the system to the decision, each figure beside a link to its run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from safedl.catalog.settings import AcceptanceSettings
from safedl.decision.checks import exceeds
from safedl.decision.decide import Decision, Item
from safedl.decision.facts import AttackOutcome, ProfileFacts
from safedl.evaluation.documents import marks, ranking_table, trade_off, worst_case_table
from safedl.reports.links import RunLink, runs
from safedl.reports.markdown import NOTHING, Markup, blocks, bullets, escape, exact, image, section, table
from safedl.risk.assess import ranked
from safedl.risk.documents import FORMULA, risk_matrix, risk_ranking
from safedl.risk.effect import number

WRITTEN = 4000
"""The most characters of a text that people wrote: an answer is shown whole."""


@dataclass(frozen=True)
class Pictures:
    """Paths of plots, relative to the report; what is missing is left out. The two mappings are by attack."""

    risk_matrix: str | None = None
    accuracy_asr: Mapping[str, str] = field(default_factory=dict)
    per_class: Mapping[str, str] = field(default_factory=dict)


def final_report(
    facts: ProfileFacts,
    decision: Decision,
    acceptance: AcceptanceSettings,
    system: Mapping[str, Any],
    link: RunLink,
    pictures: Pictures | None = None,
) -> Markup:
    """Return `final_report.md`. `system`: what was tested (data set, model, training, versions), shown as it is."""
    shown = pictures or Pictures()
    risks = ranked(o.risk for o in facts.outcomes)
    return blocks(
        f"# Final report: {escape(facts.profile)}",
        Markup(f"**{decision.verdict}**"),
        _unmeasured(facts),
        section(
            "System", table(["property", "value"], [[k, exact(v)] for k, v in system.items()]), _baseline(facts, link)
        ),
        section("Threat profile", _threat_profile(facts)),
        section(
            "Attack results",
            _attacks(facts, link),
            *(image(f"Accuracy per class under {name}", path) for name, path in shown.per_class.items()),
        ),
        section(
            "Risk matrix",
            risk_matrix(risks),
            image("Risk matrix", shown.risk_matrix) if shown.risk_matrix else "",
            risk_ranking(risks, link),
            f"Risk score: {FORMULA}.",
        ),
        section("Defenses and scores", *(_defenses(o, shown, link) for o in facts.outcomes)),
        section("Worst case over attacks", worst_case_table(facts.worst_cases, link)),
        section("Best defense per attack", _best(facts, link)),
        section("Attacks that no defense helped against", _helpless(facts)),
        section("Residual risk", _residual(facts, acceptance, link)),
        section("Decision", Markup(f"**{decision.verdict}**, because:"), bullets(decision.reasons, WRITTEN)),
        section("Deployment checklist", *_checklist(decision.checklist, link)),
    )


def _unmeasured(facts: ProfileFacts) -> str:
    return "" if facts.outcomes else "No attack of this profile has completed as it stands, so no figure is known yet."


def _baseline(facts: ProfileFacts, link: RunLink) -> Markup:
    accuracy = number(facts.baseline, "clean_accuracy")
    uids = [p.uid for p in facts.planned if p.kind == "baseline" and p.uid]
    shown = NOTHING if accuracy is None else f"{accuracy:.3f}"
    return Markup(f"Accuracy of the clean model: {shown} ({runs(uids, link)})")


def _threat_profile(facts: ProfileFacts) -> Markup:
    answers = [[key, _whole(value)] for key, value in facts.threat_model.items()]
    if not answers and not facts.skipped:
        return Markup("The profile has no threat model.")
    return blocks(table(["question", "answer"], answers) if answers else "", bullets(facts.skipped))


def _attacks(facts: ProfileFacts, link: RunLink) -> Markup:
    header = ["attack", "category", "clean accuracy", "ASR", "adversarial accuracy", "result", "runs"]
    return table(header, [_attack_row(o, link) for o in facts.outcomes])


def _attack_row(outcome: AttackOutcome, link: RunLink) -> list[Any]:
    undefended = outcome.ranking.undefended if outcome.ranking else None
    spread = undefended.values if undefended else {}
    names = ("clean_accuracy", "asr", "adversarial_accuracy")
    figures = [Markup(spread[n].text) if n in spread else number(outcome.attacked, n) for n in names]
    risk = outcome.risk
    return [risk.attack, risk.category, *figures, risk.reasons[0], runs(risk.runs, link)]


def _defenses(outcome: AttackOutcome, pictures: Pictures, link: RunLink) -> Markup:
    name = outcome.risk.attack
    if outcome.ranking is None or not outcome.ranking.defended:
        return section(name, "No defense was run.", level=3)
    plot = pictures.accuracy_asr.get(name)
    return section(
        name,
        "" if outcome.risk.effective else "The attack did not work, so nothing is ranked.",
        ranking_table(outcome.ranking, link),
        image(trade_off(name, outcome.risk.category), plot) if plot else "",
        level=3,
    )


def _best(facts: ProfileFacts, link: RunLink) -> Markup:
    rows = []
    for o in facts.outcomes:
        if o.best is None or o.ranking is None:
            continue
        others = [e.defense for e in o.ranking.entries if e.tied_with_best]
        final = Markup(o.best.values["score.final"].text)
        rows.append([o.risk.attack, o.best.defense, final, marks(o.best), others, runs(o.best.runs, link)])
    return table(["attack", "defense", "final score", "marks", "tied with it", "runs"], rows)


def _helpless(facts: ProfileFacts) -> Markup:
    if not facts.outcomes:
        return Markup("No attack was measured.")
    names = [
        o.risk.attack if o.ranking and o.ranking.defended else f"{o.risk.attack} (no defense was run)"
        for o in facts.outcomes
        if o.risk.effective and o.best is None
    ]
    return bullets(names) if names else Markup("None.")


def _residual(facts: ProfileFacts, acceptance: AcceptanceSettings, link: RunLink) -> Markup:
    rows = []
    for o in facts.outcomes:
        if o.risk.effective:
            above = exceeds(o.residual.risk_score, acceptance.max_residual_risk)
            verdict = "above the limit" if above else "within"
            defense = o.best.defense if o.best else "none"
            before, after = o.risk.risk_score, o.residual.risk_score
            rows.append([o.risk.attack, defense, before, after, o.residual.level, verdict, runs(o.evidence, link)])
    header = ["attack", "best defense", "risk before", "risk after", "level", "verdict", "runs"]
    note = (
        f"Module 3's formula on the model defended against each attack; limit {acceptance.max_residual_risk:g}. "
        "Each attack has its own best defense: what two defenses do together was not measured."
    )
    return blocks(table(header, rows), note)


def _checklist(items: tuple[Item, ...], link: RunLink) -> tuple[Markup, ...]:
    automatic = [[i.title, i.status, i.detail, runs(i.evidence, link), *_waiver(i)] for i in items if i.automatic]
    manual = [[i.title, i.status, i.detail, *_answer(i)] for i in items if not i.automatic]
    return (
        section("Automatic", table(["check", "status", "finding", "runs", "waived by", "waiver"], automatic), level=3),
        section("Manual", table(["item", "status", "asked", "note", "owner", "date", "waiver"], manual), level=3),
    )


def _answer(item: Item) -> list[Any]:
    answer = item.answer
    if answer is None:
        return [None] * 4
    date = answer.date.isoformat() if answer.date else None
    return [_whole(answer.note), _whole(answer.owner), date, _whole(answer.waiver)]


def _waiver(item: Item) -> list[Any]:
    answer = item.answer
    return [_whole(answer.owner), _whole(answer.waiver)] if answer and answer.waived else [None, None]


def _whole(value: Any) -> Any:
    """Return a value that people wrote for a cell: text uncut, none for an empty one."""
    if not isinstance(value, str):
        return value
    return escape(value, WRITTEN) if value else None
