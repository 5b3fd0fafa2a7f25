"""What a decision rests on: the planned runs, and for each attack its risk before and after the best defense."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from safedl.evaluation.comparison import Entry, Ranking
from safedl.evaluation.statistics import estimate
from safedl.evaluation.worst_case import WorstCase
from safedl.risk.assess import MeasuredAttack, RiskAssessment, assess, worst
from safedl.risk.effect import Metrics, number


@dataclass(frozen=True)
class PlannedRun:
    """One stage of the profile's plan and the run that executed it.

    `uid` is None where it was never run; `code` and `data`: the versions it recorded (data: a fingerprint);
    `idle`: an attack that altered nothing, by a rate or a budget of 0 or a change that no pixel shows.
    """

    stage: str
    kind: str
    status: str
    attack: str | None = None
    uid: str | None = None
    code: str | None = None
    data: str | None = None
    idle: bool = False


@dataclass(frozen=True)
class PrivacyBudget:
    """What a differentially private training was allowed to spend, `target` ε, and what it spent (None: not known)."""

    uid: str
    target: float
    spent: float | None


@dataclass(frozen=True)
class AttackOutcome:
    """An attack before and after its best defense; `best` is None where no defense is worth more than none.

    `residual` is then the undefended risk. Risks are those of the worst seed. `attacked` and `final`: metrics (means
    over seeds) of the attacked model and of the one that would ship; `clean`: of the clean models of the latter's
    seeds; `shipped`: those of the one that would ship for each seed; `evidence`: uids of the runs that they come from.
    A seed on which the best defense did not complete is undefended.
    """

    risk: RiskAssessment
    attacked: Metrics
    ranking: Ranking | None
    best: Entry | None
    residual: RiskAssessment
    final: Metrics
    clean: Metrics
    shipped: tuple[Metrics, ...]
    evidence: tuple[str, ...]


@dataclass(frozen=True)
class ProfileFacts:
    """Everything a decision about a profile needs. `baseline`: the clean model's metrics, means over seeds."""

    profile: str
    threat_model: Mapping[str, Any]
    baseline: Metrics
    planned: tuple[PlannedRun, ...]
    outcomes: tuple[AttackOutcome, ...]
    budgets: tuple[PrivacyBudget, ...] = ()
    skipped: tuple[str, ...] = ()
    """One line for each attack or defense that the profile names and that is not simulated."""
    unsimulated: tuple[str, ...] = ()
    """The attacks among them."""
    worst_cases: tuple[WorstCase, ...] = ()
    """Each model under all attacks at test time that were run against it, image by image."""
    together: tuple[WorstCase, ...] = ()
    """Each model that would ship against several attacks at test time, under all of these, image by image."""
    unread: tuple[str, ...] = ()
    """Uids of runs at test time whose result cannot be read, so that they are missing in the two above."""
    guessing: tuple[str, ...] = ()
    """Uids of the clean models that do no better than chance."""


def mean_metrics(rows: Sequence[Metrics]) -> dict[str, float]:
    """Return the mean of each metric over the runs that measured it."""
    names = {name for row in rows for name in row}
    columns = {name: [v for v in (number(row, name) for row in rows) if v is not None] for name in sorted(names)}
    return {name: estimate(values).mean for name, values in columns.items() if values}


@dataclass(frozen=True)
class SeedOfAttack:
    """An attack on one seed, and the metrics of the clean model it started from."""

    attack: MeasuredAttack
    baseline: Metrics


def outcome(
    seeds: Mapping[int, SeedOfAttack], threat_model: Mapping[str, Any], ranking: Ranking | None
) -> AttackOutcome:
    """Return an attack's risk, its best defense by `ranking` (of `score.final`), and the risk that is left.

    `seeds`: the attack by seed, one at least. The residual risk is Module 3's formula on the defended model: its
    accuracy and ASR, the attack's visibility.
    """
    risk = worst([assess(s.attack, s.baseline, threat_model) for s in seeds.values()])
    attacked = mean_metrics([s.attack.metrics for s in seeds.values()])
    best = ranking.best if ranking and risk.effective else None
    if best is None:
        same = tuple(s.attack.metrics for s in seeds.values())
        clean = mean_metrics([s.baseline for s in seeds.values()])
        return AttackOutcome(risk, attacked, ranking, None, risk, attacked, clean, same, risk.runs)
    left = []
    for result in best.results:
        seed = seeds[result.seed]
        # What evasion is measured against stays the clean model: a defense that ruins it leaves no smaller risk.
        own = {name: value for name, value in result.metrics.items() if name != "sampled_accuracy"}
        model = replace(seed.attack, metrics={**seed.attack.metrics, **own}, runs=(result.uid,))
        left.append(assess(model, seed.baseline, threat_model))
    defended = {result.seed for result in best.results}
    bare = [s for seed, s in seeds.items() if seed not in defended]
    left += [assess(s.attack, s.baseline, threat_model) for s in bare]
    after = {name: found.mean for name, found in best.values.items()}
    clean = mean_metrics([seeds[r.seed].baseline for r in best.results])
    shipped = (*(r.metrics for r in best.results), *(s.attack.metrics for s in bare))
    evidence = (*best.runs, *(uid for s in bare for uid in s.attack.runs))
    return AttackOutcome(risk, attacked, ranking, best, worst(left), after, clean, shipped, evidence)
