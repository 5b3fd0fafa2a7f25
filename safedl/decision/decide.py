"""The deployment checklist, and the go or no-go that follows from its automatic part."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from safedl.catalog.settings import AcceptanceSettings
from safedl.decision.answers import Answer
from safedl.decision.checks import AUTOMATIC, simulations, threats
from safedl.decision.facts import ProfileFacts
from safedl.threats import CATEGORIES

Status = Literal["pass", "fail", "not applicable", "waived", "done", "open"]

MANUAL: dict[str, tuple[str, str]] = {
    "monitoring_metrics": (
        "Monitoring metrics",
        "Which figures of the serving model are watched: share per predicted class, confidence, rejected inputs.",
    ),
    "alert_thresholds": ("Alert thresholds", "From which value on an alarm is raised, and who receives it."),
    "drift": ("Drift", "How a change of the inputs is noticed, and what then happens."),
    "reassessment": (
        "Re-assessment",
        "When the attacks are run again: on new data, on a new model, at least every ...",
    ),
    "versioning_rollback": ("Versioning and rollback", "Where models and data are versioned; the way back was tried."),
    "incident_response": ("Incident response", "Who acts on a suspected attack, and how the model is taken offline."),
    "ci_gate": ("CI/CD gate", "safedl check runs before each deployment and blocks it with exit code 3."),
}
"""What people must settle, by id: title and what is asked."""


@dataclass(frozen=True)
class Item:
    """One line of the checklist. `detail`: what was found, or what is asked; `evidence`: uids of runs."""

    id: str
    title: str
    automatic: bool
    status: Status
    detail: str
    evidence: tuple[str, ...] = ()
    answer: Answer | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return the item as plain values, for JSON."""
        return {
            "id": self.id,
            "title": self.title,
            "automatic": self.automatic,
            "status": self.status,
            "detail": self.detail,
            "evidence": list(self.evidence),
            "answer": self.answer.model_dump(mode="json") if self.answer else None,
        }


@dataclass(frozen=True)
class Decision:
    """`go` is true where no automatic check fails without a waiver; `reasons` say why, one sentence each."""

    go: bool
    reasons: tuple[str, ...]
    checklist: tuple[Item, ...]

    @property
    def verdict(self) -> str:
        """`GO` or `NO-GO`."""
        return "GO" if self.go else "NO-GO"


def decide(facts: ProfileFacts, acceptance: AcceptanceSettings, answers: Mapping[str, Answer]) -> Decision:
    """Return the decision about a profile. Manual items never block it; those still open are counted in the reasons."""
    items = checklist(facts, acceptance, answers)
    failed = [i for i in items if i.status == "fail"]
    waived = [i for i in items if i.automatic and i.status == "waived"]
    pending = [i for i in items if i.status == "open"]
    passed = sum(i.status == "pass" for i in items)
    reasons = [f"{i.title}: {i.detail}" for i in failed]
    if not failed:
        reasons.append(f"{passed} automatic checks pass and none fails{' without a waiver' if waived else ''}")
    reasons += [
        f"{i.title}: waived by {i.answer.owner} ({i.answer.waiver}), although {i.detail}" for i in waived if i.answer
    ]
    if pending:
        reasons.append(f"{len(pending)} manual item{'s' if len(pending) > 1 else ''} still open")
    return Decision(not failed, tuple(reasons), items)


def checklist(facts: ProfileFacts, acceptance: AcceptanceSettings, answers: Mapping[str, Answer]) -> tuple[Item, ...]:
    """Return all items: automatic checks first, then what people must settle, then what could not be simulated."""
    items = []
    for id, (title, check) in AUTOMATIC.items():
        found, answer = check(facts, acceptance), answers.get(id)
        lifted = found.verdict == "fail" and answer is not None and answer.waived
        status: Status = "waived" if lifted else found.verdict
        items.append(Item(id, title, True, status, found.detail, found.evidence, answer))
    items += [_manual(id, title, asked, answers) for id, (title, asked) in MANUAL.items()]
    asked = "There is no simulation of it here: assess it by other means."
    items += [
        _manual(f"not_simulated.{name}", f"{kind} not simulated: {name}", asked, answers)
        for kind, name in _not_simulated(facts)
    ]
    return tuple(items)


def _not_simulated(facts: ProfileFacts) -> list[tuple[str, str]]:
    """Return the threats that a profile names and that have no simulation, and attacks of no such threat."""
    named = [threat for threat in threats(facts.threat_model) if not simulations(threat)]
    theirs = {attack for threat in named if threat in CATEGORIES for attack in CATEGORIES[threat].attacks}
    others = [attack for attack in facts.unsimulated if attack not in theirs]
    return [*(("Threat", threat) for threat in named), *(("Attack", attack) for attack in others)]


def _manual(id: str, title: str, asked: str, answers: Mapping[str, Answer]) -> Item:
    answer = answers.get(id)
    status: Status = "open"
    if answer is not None:
        status = "waived" if answer.waived else "done" if answer.done else "open"
    return Item(id, title, False, status, asked, (), answer)
