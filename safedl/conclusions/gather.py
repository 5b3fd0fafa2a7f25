"""From a profile and the store to risk, advice, rankings and a decision.

A profile's runs are those of its latest experiment (by its name, and on its own files where it has such) as it was
started or resumed last, linked ones included, that do what the profile says today (same recipe and seed). A stage
without such a run counts as not run: linking costs nothing, so running the profile again settles it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from safedl.catalog import Category, Measure
from safedl.catalog.datasets import DATASETS
from safedl.catalog.defense_tags import recommended
from safedl.conclusions import notes
from safedl.conclusions.own_files import same_files
from safedl.decision.decide import Decision, decide
from safedl.decision.facts import (
    AttackOutcome,
    PlannedRun,
    PrivacyBudget,
    ProfileFacts,
    SeedOfAttack,
    mean_metrics,
    outcome,
)
from safedl.evaluation.comparison import Ranking, compare
from safedl.evaluation.worst_case import worst_cases
from safedl.plan import Stage, expand
from safedl.profile.choices import planned_attacks
from safedl.profile.schema import Profile
from safedl.risk.assess import MeasuredAttack, RiskAssessment, assess, worst
from safedl.risk.documents import RiskPoint
from safedl.risk.effect import Metrics, guesses, measure_of, number
from safedl.risk.recommend import Advice, Evidence, recommend
from safedl.store import connect, queries
from safedl.store.queries import ExperimentRow
from safedl.store.records import RunRow
from safedl.store.results import Selection, evidence, results

NOT_RUN = "not run"
PAST = 20
"""How many experiments the history of a profile's risk goes back."""


@dataclass(frozen=True)
class Conclusions:
    """What is known about a profile. `experiment` is None if it never ran."""

    profile: Profile
    experiment: ExperimentRow | None
    facts: ProfileFacts
    decision: Decision
    rankings: tuple[Ranking, ...]
    advice: Mapping[str, Advice]
    history: tuple[RiskPoint, ...]
    system: Mapping[str, Any]
    classes: tuple[str, ...]
    """Names of the classes, in the data's order, as far as a baseline recorded them."""
    metrics: Mapping[str, Metrics]
    """All metrics of the profile's completed runs, by uid."""

    @property
    def assessments(self) -> tuple[RiskAssessment, ...]:
        """The risk of each attack that was run."""
        return tuple(o.risk for o in self.facts.outcomes)

    @property
    def verdict(self) -> str:
        """Go or no-go in one line, with the reasons."""
        return f"{self.decision.verdict}: {'; '.join(self.decision.reasons)}"


def conclude(db: Path, folder: Path, profile: Profile) -> Conclusions:
    """Return what the store `db` and the files in `folder` (a workspace's `results/`) say about a profile.

    Raises `StoreError` if the store cannot be used, `UsageError` for answers that cannot be read.
    """
    past = experiments_of(db, folder, profile)
    experiment = past[0] if past else None
    found = _executed(db, folder, experiment.record.uid) if experiment else []
    stages = expand(profile, _seeds(experiment, found)).stages
    runs = _matched(stages, found)
    completed = {id: row for id, row in runs.items() if row.status == "completed"}
    baselines = _baselines(folder, completed)
    rankings: tuple[Ranking, ...] = ()
    if experiment:
        uids = {row.record.uid for row in completed.values()}
        rankings = compare(r for r in results(db, Selection(experiment=experiment.record.uid)) if r.uid in uids)
    clean = {row.record.uid: row.metrics for row in completed.values() if row.record.kind == "baseline"}
    outcomes = _outcomes(profile, stages, completed, rankings)
    shipped = {uid for o in outcomes for uid in o.evidence}
    attacked = _evasion(folder, completed)
    facts = ProfileFacts(
        profile=profile.name,
        threat_model=profile.threat_model,
        baseline=mean_metrics(list(clean.values())),
        planned=tuple(_planned(stage, runs.get(stage.id), baselines) for stage in stages),
        outcomes=outcomes,
        budgets=tuple(_budget(row) for row in completed.values() if row.record.defense == "dp_training"),
        skipped=profile.skipped,
        unsimulated=planned_attacks(profile.document),
        worst_cases=worst_cases(list(attacked.values())),
        together=worst_cases([document for uid, document in attacked.items() if uid in shipped]),
        unread=tuple(
            row.record.uid
            for row in completed.values()
            if row.record.category == "evasion" and row.record.uid not in attacked
        ),
        guessing=tuple(uid for uid, metrics in clean.items() if guesses(metrics)),
    )
    return Conclusions(
        profile=profile,
        experiment=experiment,
        facts=facts,
        decision=decide(facts, profile.acceptance, notes.read(folder, profile.name)),
        rankings=rankings,
        advice={o.risk.attack: _advice(db, o, completed) for o in outcomes},
        history=tuple(_risk_point(db, folder, row, profile) for row in reversed(past)),
        system=_system(profile, experiment, completed, baselines),
        classes=tuple(next((b["class_names"] for b in baselines.values() if "class_names" in b), ())),
        metrics={row.record.uid: row.metrics for row in completed.values()},
    )


def experiments_of(db: Path, folder: Path, profile: Profile) -> list[ExperimentRow]:
    """Return a profile's latest experiments, the newest first: by its name, and on its own files where it has such.

    `db` and `folder` as in `conclude`. Raises `StoreError` if the store cannot be used.
    """
    found: list[ExperimentRow] = []
    before, more = None, connect.exists(db)
    while more and len(found) < PAST:
        page = queries.experiments(db, name=profile.name, scans=False, limit=PAST, before=before)
        found += [row for row in page if _of_its_files(folder, row.record.uid, profile)]
        before, more = page[-1].record.uid if page else None, len(page) == PAST
    return found[:PAST]


def _seeds(experiment: ExperimentRow | None, found: Sequence[RunRow]) -> Sequence[int] | None:
    """Return the seeds that an experiment was asked for; None stands for the profile's own, whatever it is now."""
    options = experiment.record.config.get("options") if experiment else None
    if isinstance(options, Mapping) and "seeds" in options:
        asked: Sequence[int] | None = options["seeds"]
        return asked
    return sorted({row.record.seed for row in found}) or None


def _of_its_files(folder: Path, experiment: str, profile: Profile) -> bool:
    """Say whether an experiment of a profile's name ran on the data and the model that the profile means."""
    plan = _read(folder / "experiments" / experiment / "plan.json")
    if plan is None:
        return True
    own = profile.path.resolve().parent if profile.path else None
    copied = _read(own / "plan.json") if own else None  # a resumed experiment goes by a copy of its profile
    now = copied.get("folders", ()) if copied else [*([own] if own else []), folder.absolute().parent]
    return same_files(profile, now, plan.get("folders", ()))


def _executed(db: Path, folder: Path, experiment: str, kinds: Sequence[str | None] = (None,)) -> list[RunRow]:
    """Return the runs of what an experiment executed when it was started or resumed last, newest first of each kind.

    Data, code or machine may have changed since an earlier start: what ran then has other stage keys.
    """
    found = [row for kind in kinds for row in queries.runs(db, experiment=experiment, kind=kind, limit=None)]
    plan = _read(folder / "experiments" / experiment / "plan.json")
    if plan is None or "runs" not in plan:
        return found
    planned = set(plan["runs"])
    keys = {row.record.stage_key for row in found if row.record.uid in planned}
    return [row for row in found if row.record.stage_key in keys]


def _matched(stages: Sequence[Stage], found: Sequence[RunRow]) -> dict[str, RunRow]:
    """Return the run of each stage, by the stage's id: a completed one, else the newest."""
    by_recipe: dict[tuple[str, int], RunRow] = {}
    for row in reversed(found):  # oldest first
        key = row.record.recipe, row.record.seed
        if key not in by_recipe or by_recipe[key].status != "completed":
            by_recipe[key] = row
    keys = {stage.id: (stage.recipe, stage.seed) for stage in stages}
    return {id: by_recipe[key] for id, key in keys.items() if key in by_recipe}


def _baselines(folder: Path, completed: Mapping[str, RunRow]) -> dict[int, dict[str, Any]]:
    """Return the result documents of the baselines, by seed; a missing one shows in the check of recorded versions."""
    rows = [row for row in completed.values() if row.record.kind == "baseline"]
    return {row.record.seed: document for row in rows if (document := _document(folder, row))}


def _evasion(folder: Path, completed: Mapping[str, RunRow]) -> dict[str, dict[str, Any]]:
    """Return the result documents of models attacked at test time, by the run's uid."""
    rows = [row for row in completed.values() if row.record.category == "evasion"]
    return {row.record.uid: document for row in rows if (document := _document(folder, row))}


def _document(folder: Path, row: RunRow) -> dict[str, Any] | None:
    """Return a run's result document, or None if it cannot be read."""
    return _read(folder / "runs" / row.record.uid / "result.json")


def _read(path: Path) -> dict[str, Any] | None:
    try:
        document: dict[str, Any] = json.loads(path.read_text())
    except (OSError, ValueError):
        return None
    return document


def _planned(stage: Stage, row: RunRow | None, baselines: Mapping[int, Mapping[str, Any]]) -> PlannedRun:
    if row is None:
        return PlannedRun(stage.id, stage.kind, NOT_RUN, stage.attack)
    data = baselines.get(stage.seed, {}).get("fingerprint")
    # A budget of 0 alters no image, a poison rate of 0 no sample, a white patch no white one: legal, but it shows
    # nothing of the threat.
    altered = number(stage.params, "epsilon"), *(number(row.metrics, n) for n in ("poison_rate", "perturbation_linf"))
    idle = stage.kind == "attack" and 0 in altered
    return PlannedRun(stage.id, stage.kind, row.status, stage.attack, row.record.uid, row.record.code, data, idle)


def _outcomes(
    profile: Profile, stages: Sequence[Stage], completed: Mapping[str, RunRow], rankings: Sequence[Ranking]
) -> tuple[AttackOutcome, ...]:
    rows = [completed[stage.id] for stage in stages if stage.id in completed]
    found = []
    for choice in profile.attacks:
        spec = choice.spec
        if seeds := _by_seed(rows, spec.name, spec.category, spec.measure):
            found.append(
                outcome(seeds, profile.threat_model, next((r for r in rankings if r.attack == spec.name), None))
            )
    return tuple(found)


def _by_seed(rows: Sequence[RunRow], name: str, category: Category, measure: Measure) -> dict[int, SeedOfAttack]:
    """Return an attack by seed, with the baseline of the same seed, from completed runs."""
    baselines = {row.record.seed: row.metrics for row in rows if row.record.kind == "baseline"}
    found = {}
    for row in rows:
        record = row.record
        if record.kind == "attack" and record.attack == name:
            params = {k.removeprefix("attack."): v for k, v in record.params.items() if k.startswith("attack.")}
            attack = MeasuredAttack(name, category, measure, row.metrics, params, (record.uid,))
            found[record.seed] = SeedOfAttack(attack, baselines.get(record.seed, {}))
    return found


def _budget(row: RunRow) -> PrivacyBudget:
    target = number(row.record.params, "defense.epsilon")
    return PrivacyBudget(row.record.uid, target or 0.0, number(row.metrics, "epsilon_spent"))


def _advice(db: Path, found: AttackOutcome, completed: Mapping[str, RunRow]) -> Advice:
    """Return the advice against an attack by what was measured on its model and its data set's family.

    A defense that the profile's own runs measured stands by these, so that the advice says what the comparison says:
    the rest of the store may hold it with other parameters or seeds, or on data that has changed since.
    """
    run = next(row.record for row in completed.values() if row.record.uid == found.risk.runs[0])
    here = _own_evidence(found.ranking) if found.ranking else {}
    measured = [e for e in evidence(db, found.risk.attack, family(run.dataset), run.model) if e.defense not in here]
    measured += here.values()
    own = {e.defense for e in measured if e.dataset == run.dataset}
    nearest = [
        replace(e, same=e.attack_recipe == run.recipe)
        for e in measured
        if e.dataset == run.dataset or e.defense not in own
    ]
    return recommend(found.risk, recommended(found.risk.attack), nearest)


def _own_evidence(ranking: Ranking) -> dict[str, Evidence]:
    """Return what a profile's own runs measured, by defense."""
    found = {}
    for entry in ranking.entries:
        score, mitigation = (entry.values.get(f"score.{name}") for name in ("final", "mitigation"))
        if entry.kind == "defense" and score and mitigation:
            found[entry.defense] = Evidence(
                entry.defense, ranking.dataset, ranking.model, score.mean, mitigation.mean, score.count, entry.runs,
                ranking.recipe,
            )  # fmt: skip
    return found


def family(dataset: str) -> tuple[str, ...]:
    """Return the built-in data sets with images of the same shape as `dataset`; one's own stands alone."""
    known = DATASETS.get(dataset)
    return tuple(name for name, spec in DATASETS.items() if known and spec.shape == known.shape) or (dataset,)


def _risk_point(db: Path, folder: Path, experiment: ExperimentRow, profile: Profile) -> RiskPoint:
    """Return the risk as one experiment found it, under the threat model that its profile had then."""
    uid = experiment.record.uid
    threats = experiment.record.config.get("profile", {}).get("threat_model") or profile.threat_model
    rows = [row for row in _executed(db, folder, uid, ("baseline", "attack")) if row.status == "completed"]
    scores = {}
    kinds: dict[str, Any] = {row.record.attack: row.record.category for row in rows if row.record.attack}
    for name, category in sorted(kinds.items()):
        seeds = _by_seed(rows, name, category, measure_of(name, category))
        if seeds:
            scores[name] = worst([assess(s.attack, s.baseline, threats) for s in seeds.values()]).risk_score
    return RiskPoint(experiment.record.created_at[:19].replace("T", " "), uid, scores)


def _system(
    profile: Profile,
    experiment: ExperimentRow | None,
    completed: Mapping[str, RunRow],
    baselines: Mapping[int, Mapping[str, Any]],
) -> dict[str, Any]:
    """Return what was tested, for the report: data, model, training, versions, place."""
    runs = [row.record for row in completed.values()]
    facts: dict[str, Any] = {
        "profile": str(profile.path) if profile.path else profile.name,
        "experiment": experiment.record.uid if experiment else None,
        "seeds": sorted({run.seed for run in runs}),
    }
    for document in list(baselines.values())[:1]:
        facts |= {key: document.get(key) for key in ("train_images", "trusted_images", "test_images", "layer")}
    if runs:
        sections = ("dataset.", "model.", "training.")
        facts |= {k: v for k, v in runs[0].params.items() if k.startswith(sections) and v is not None}
        facts |= {f"version of {k}": v for k, v in runs[0].versions.items() if v}
        facts |= {"host": runs[0].host, "device": runs[0].device}
    facts["data fingerprints"] = sorted({str(d["fingerprint"]) for d in baselines.values() if "fingerprint" in d})
    return {key: value for key, value in facts.items() if value not in (None, [], {})}
