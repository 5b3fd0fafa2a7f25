"""The pictures of a profile's report, drawn from what was concluded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from safedl import __version__
from safedl.cache import digest
from safedl.conclusions.gather import Conclusions
from safedl.decision.facts import AttackOutcome, mean_metrics
from safedl.decision.report import Pictures
from safedl.evaluation.documents import marks
from safedl.risk.assess import ranked

MATRIX = "risk_matrix.png"

Kind = Literal["defense", "undefended", "bound"]


@dataclass(frozen=True)
class Drawing:
    """A picture before it is drawn. `kind` names the function of `safedl.reports.charts`; `arguments` are plain."""

    kind: Literal["risk_matrix", "accuracy_harm", "per_class"]
    arguments: tuple[Any, ...]

    @property
    def key(self) -> str:
        """Equal keys give equal pictures."""
        from importlib.metadata import version

        return digest([__version__, version("matplotlib"), self.kind, repr(self.arguments)])

    def draw(self) -> bytes:
        """Return the picture as PNG."""
        from safedl.reports import charts  # loads matplotlib

        if self.kind == "accuracy_harm":
            points, harm = self.arguments
            return charts.accuracy_harm([charts.Point(*point) for point in points], harm)
        return charts.risk_matrix(*self.arguments) if self.kind == "risk_matrix" else charts.per_class(*self.arguments)


def drawings(found: Conclusions) -> dict[str, Drawing]:
    """Return the pictures by file name."""
    drawn = {}
    risks = [a for a in ranked(found.assessments) if a.effective]
    if risks:
        places = {a.attack: (a.severity, a.probability, a.risk_score) for a in risks}
        drawn[MATRIX] = Drawing("risk_matrix", (places,))
    for outcome in found.facts.outcomes:
        name = outcome.risk.attack
        if len(points := _points(outcome)) > 1:
            evasion = outcome.risk.category == "evasion"
            harm = "Accuracy on adversarial images" if evasion else "Attack success rate (ASR)"
            drawn[_scatter(name)] = Drawing("accuracy_harm", (points, harm))
        if found.classes:
            drawn[_bars(name)] = Drawing("per_class", (found.classes, _per_class(found, outcome)))
    return drawn


def placed(found: Conclusions, drawn: Mapping[str, Drawing], folder: str) -> Pictures:
    """Return where a document finds the pictures that were drawn; `folder` ends with a slash, or is empty."""
    attacks = [o.risk.attack for o in found.facts.outcomes]
    return Pictures(
        folder + MATRIX if MATRIX in drawn else None,
        {a: folder + _scatter(a) for a in attacks if _scatter(a) in drawn},
        {a: folder + _bars(a) for a in attacks if _bars(a) in drawn},
    )


def _scatter(attack: str) -> str:
    return f"accuracy_asr_{attack}.png"


def _bars(attack: str) -> str:
    return f"per_class_{attack}.png"


def _points(outcome: AttackOutcome) -> list[tuple[str, float, float, Kind, str]]:
    """Return the models of an attack's ranking for which accuracy and harm were measured, as `charts.Point` has it."""
    harm = "adversarial_accuracy" if outcome.risk.category == "evasion" else "asr"
    points = []
    for entry in outcome.ranking.entries if outcome.ranking else ():
        accuracy, value = entry.mean("clean_accuracy"), entry.mean(harm)
        if accuracy is not None and value is not None:
            kind: Kind = "undefended" if entry.kind == "attack" else entry.kind
            points.append((entry.defense, accuracy, value, kind, marks(entry)))
    return points


def _per_class(found: Conclusions, outcome: AttackOutcome) -> dict[str, list[float | None]]:
    """Return clean accuracy by class of the clean, the attacked and the best defended model."""
    models = {"clean model": found.facts.baseline, "attacked": outcome.attacked}
    if outcome.best:
        models[outcome.best.defense] = mean_metrics([found.metrics[uid] for uid in outcome.best.runs])
    return {name: [values.get(f"clean_accuracy.{c}") for c in found.classes] for name, values in models.items()}
