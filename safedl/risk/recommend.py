"""Which defenses to try against an attack: what was measured comes first, prior knowledge where nothing was."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from safedl import catalog
from safedl.catalog.defense_tags import Tag
from safedl.risk.assess import RiskAssessment

ADVISED = 3
"""How many of the recommended defenses are to be tried first."""


@dataclass(frozen=True)
class Evidence:
    """What the store has measured of a defense against an attack, on one data set and model: means over seeds.

    `attack_recipe`: hash of the attack's configuration, training included; `score`: final score in [-1, 1];
    `mitigation` in [-1, 1]; `runs`: uids; `same`: measured under the very configuration that the advice is for.
    """

    defense: str
    dataset: str
    model: str
    score: float
    mitigation: float
    seeds: int
    runs: tuple[str, ...] = ()
    attack_recipe: str = ""
    same: bool = True


@dataclass(frozen=True)
class Recommendation:
    """A defense, why it stands where it does, and the measurement behind it (None: prior knowledge)."""

    defense: str
    reason: str
    evidence: Evidence | None = None


@dataclass(frozen=True)
class Advice:
    """Defenses worth applying against an attack, the best first, and those that were measured and do not help."""

    attack: str
    recommended: tuple[Recommendation, ...] = ()
    unhelpful: tuple[Recommendation, ...] = ()


def recommend(risk: RiskAssessment, prior: Sequence[Tag], evidence: Sequence[Evidence] = ()) -> Advice:
    """Return the advice against an attack; none for one that did not work or was not measured.

    Defenses with a measured final score above 0 come first, the highest score first, then those not measured yet in
    the order of `prior` (`catalog.defense_tags.recommended`), then those that only diagnose. Where a defense was
    measured more than once, what was measured under the same configuration counts, then the row with the most seeds,
    then the one with the higher score.
    """
    if not risk.effective:
        return Advice(risk.attack)
    measured: dict[str, Evidence] = {}
    for row in sorted(evidence, key=lambda e: (e.same, e.seeds, e.score)):
        measured[row.defense] = row
    tags = {tag.defense: tag for tag in prior}
    diagnosing = [name for name in tags if _diagnoses(name)]
    tested = sorted((e for n, e in measured.items() if not _diagnoses(n)), key=lambda e: (-e.score, e.defense))
    helpful = [Recommendation(e.defense, _measured(e), e) for e in tested if e.score > 0]
    unknown = [Recommendation(t.defense, f"not measured yet; {t.reason}") for n, t in tags.items()
               if n not in measured and n not in diagnosing]  # fmt: skip
    checks = [Recommendation(n, f"diagnoses only; {tags[n].reason}", measured.get(n)) for n in diagnosing]
    useless = [Recommendation(e.defense, _measured(e), e) for e in tested if e.score <= 0]
    return Advice(risk.attack, (*helpful, *unknown, *checks), tuple(useless))


def _measured(row: Evidence) -> str:
    seeds = f"{row.seeds} seed{'' if row.seeds == 1 else 's'}"
    where = f"{row.dataset} / {row.model}" + ("" if row.same else ", attack or training set otherwise")
    return f"measured on {where}, {seeds}: score {row.score:.3f}, mitigation {row.mitigation:.3f}"


def _diagnoses(defense: str) -> bool:
    spec = catalog.DEFENSES.get(defense)
    return spec is not None and spec.kind == "diagnose"
