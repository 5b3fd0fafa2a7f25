"""Module 5: for each attack, its defenses in order, with intervals, ties and Pareto marks. Imports no torch."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from safedl.catalog import Category, Measure
from safedl.evaluation.statistics import Estimate, estimate, pareto, tied
from safedl.risk.effect import Metrics, effect, measure_of

NONE = "none"
"""What the row of the undefended model is called."""

COMPARED = (
    "score.final", "score.mitigation", "score.cad", "score.cost", "clean_accuracy", "asr", "adversarial_accuracy",
    "robust_accuracy", "source_target_rate", "tpr", "fpr", "precision", "auroc", "removed", "seconds",
)  # fmt: skip
"""Metrics that a comparison looks at, where they were measured."""

DELTAS = ("clean_accuracy", "asr", "adversarial_accuracy", "robust_accuracy", "source_target_rate")
"""Those of them that are also compared with the undefended model, seed by seed."""

SMALLER_IS_BETTER = frozenset({"asr", "source_target_rate", "fpr", "score.cost", "seconds", "removed"})


@dataclass(frozen=True, slots=True)
class Result:
    """One completed run as a comparison needs it.

    `kind` attack: the undefended model, `defense` is `none`; bound: a reference that is shown and never ranked.
    `recipe`, `attack_recipe`: hashes without the seed of the run's own configuration and of its attack's.
    `metrics`: with `score.*` for defenses; `before`: the attack's run; `baseline`: the clean model's.
    """

    uid: str
    kind: Literal["attack", "defense", "bound"]
    dataset: str
    model: str
    category: Category
    attack: str
    defense: str
    seed: int
    recipe: str
    attack_recipe: str
    metrics: Metrics
    before: Metrics
    baseline: Metrics


@dataclass(frozen=True)
class Entry:
    """A defense against an attack over its seeds.

    `values`: means of the metrics of `COMPARED` that were measured; `deltas`: against the undefended model;
    `place`: from 1, shared by equal means, None for what is not ranked; `by_seed`: the metric that ranks, per seed;
    `results`: by seed.
    """

    defense: str
    kind: Literal["attack", "defense", "bound"]
    recipe: str
    values: Mapping[str, Estimate]
    deltas: Mapping[str, Estimate]
    results: tuple[Result, ...]
    by_seed: Mapping[int, float] = field(default_factory=dict)
    place: int | None = None
    tied_with_best: bool = False
    pareto: bool = False

    @property
    def runs(self) -> tuple[str, ...]:
        """Uids of the runs, by seed."""
        return tuple(r.uid for r in self.results)

    @property
    def seeds(self) -> str:
        """How many seeds there are, and how many of them have a final score, where it is not all."""
        scored = self.values.get("score.final")
        count = len(self.results)
        return f"{scored.count} of {count}" if scored and scored.count < count else str(count)

    def mean(self, name: str) -> float | None:
        """Return the mean of a metric, None if it was not measured."""
        found = self.values.get(name)
        return found.mean if found else None


@dataclass(frozen=True)
class Ranking:
    """The defenses of one attack on one data set and model, the best first. `note` says whether the attack worked."""

    dataset: str
    model: str
    category: Category
    attack: str
    recipe: str
    effective: bool
    note: str
    by: str
    entries: tuple[Entry, ...]

    @property
    def undefended(self) -> Entry | None:
        """The row `none`, if it is among the results."""
        return next((e for e in self.entries if e.kind == "attack"), None)

    @property
    def defended(self) -> bool:
        """Whether a defense is among the entries."""
        return any(e.kind == "defense" for e in self.entries)

    @property
    def best(self) -> Entry | None:
        """The defense in first place that is worth more than none; None if there is none such."""
        first = next((e for e in self.entries if e.place == 1), None)
        final = first.mean("score.final") if first else None
        return first if final is not None and final > 0 else None


def told_apart(rankings: Sequence[Ranking]) -> list[str]:
    """Return what each ranking's attack is called: with the beginning of its recipe where several are alike but for it.

    An attack with other parameters, or after another training, has a ranking of its own.
    """
    alike = Counter((r.attack, r.dataset, r.model) for r in rankings)
    return [f"{r.attack} ({r.recipe[:8]})" if alike[r.attack, r.dataset, r.model] > 1 else r.attack for r in rankings]


def compare(results: Iterable[Result], by: str = "score.final") -> tuple[Ranking, ...]:
    """Return one ranking for each attack, data set and model; attacks with other parameters are other attacks.

    `by`: a metric of `COMPARED`. Where an attack worked on no seed nothing has a place. Of several runs with the same
    recipe and seed the last one counts. Pareto marks: clean accuracy against ASR (adversarial accuracy for evasion).
    """
    groups: dict[tuple[str, str, str, str], dict[tuple[str, str], dict[int, Result]]] = defaultdict(dict)
    for result in results:
        rows = groups[result.dataset, result.model, result.attack, result.attack_recipe]
        rows.setdefault((result.defense, result.recipe), {})[result.seed] = result
    return tuple(_ranking([list(rows.values()) for rows in groups[key].values()], by) for key in sorted(groups))


def _ranking(rows: Sequence[list[Result]], by: str) -> Ranking:
    some = rows[0][0]
    measure = measure_of(some.attack, some.category)
    worked, note = _effect(measure, rows)
    entries = [_entry(runs, by) for runs in rows]
    sign = -1 if by in SMALLER_IS_BETTER else 1
    entries.sort(key=lambda e: (by not in e.values, -sign * (e.mean(by) or 0.0), e.defense, e.recipe))
    return Ranking(
        some.dataset, some.model, some.category, some.attack, some.attack_recipe, worked, note, by,
        tuple(_marked(_placed(entries, by), measure) if worked else entries),
    )  # fmt: skip


def _effect(measure: Measure, rows: Sequence[list[Result]]) -> tuple[bool, str]:
    """Return whether the attack worked on any seed, and the sentence that says so."""
    pairs: dict[int, tuple[Metrics, Metrics]] = {}
    for result in (r for runs in rows for r in runs):
        pairs[result.seed] = (result.baseline, result.metrics if result.kind == "attack" else result.before)
    effects = [effect(measure, baseline, attacked) for _, (baseline, attacked) in sorted(pairs.items())]
    good = sum(e.effective for e in effects)
    if len(effects) == 1:
        return bool(good), effects[0].reason
    example = next((e for e in effects if e.effective), effects[0])
    return bool(good), f"effective on {good} of {len(effects)} seeds; on one of them {example.reason}"


def _entry(runs: list[Result], by: str) -> Entry:
    runs.sort(key=lambda r: r.seed)
    values, deltas = {}, {}
    # The seconds of an attack's run trained the attacked model: doing nothing against it costs none.
    for name in (n for n in COMPARED if n != "seconds" or runs[0].kind != "attack"):
        column = [v for r in runs if (v := r.metrics.get(name)) is not None]
        if column:
            values[name] = estimate(column)
    for name in DELTAS if runs[0].kind != "attack" else ():
        pairs = [(r.metrics.get(name), r.before.get(name)) for r in runs]
        changes = [after - before for after, before in pairs if after is not None and before is not None]
        if changes:
            deltas[name] = estimate(changes)
    by_seed = {r.seed: v for r in runs if (v := r.metrics.get(by)) is not None}
    return Entry(runs[0].defense, runs[0].kind, runs[0].recipe, values, deltas, tuple(runs), by_seed)


def _placed(entries: Sequence[Entry], by: str) -> list[Entry]:
    """Number the defenses that were measured, and mark those that cannot be told from the first.

    Equal means share a place, as in the store's leaderboard.
    """
    first = next((e for e in entries if e.kind == "defense" and by in e.values), None)
    placed: list[Entry] = []
    means: list[float | None] = []
    for entry in entries:
        if first is None or entry.kind != "defense" or by not in entry.values:
            placed.append(entry)
            continue
        means.append(entry.mean(by))
        same = entry is not first and tied(first.by_seed, entry.by_seed)
        placed.append(replace(entry, place=means.index(means[-1]) + 1, tied_with_best=same))
    return placed


def _marked(entries: Sequence[Entry], measure: Measure) -> list[Entry]:
    """Mark what is Pareto-optimal among the defenses and the undefended model; bounds do not compete."""
    points = {i: _point(e, measure) for i, e in enumerate(entries) if e.kind != "bound"}
    known = {i: p for i, p in points.items() if p is not None}
    optimal = dict(zip(known, pareto(list(known.values())), strict=True))
    return [replace(e, pareto=True) if optimal.get(i) else e for i, e in enumerate(entries)]


def _point(entry: Entry, measure: Measure) -> tuple[float, float] | None:
    accuracy = entry.mean("clean_accuracy")
    if measure == "asr":
        asr = entry.mean("asr")
        second = None if asr is None else -asr
    elif measure == "adversarial":
        second = entry.mean("adversarial_accuracy")
    else:
        second = 0.0
    return None if accuracy is None or second is None else (accuracy, second)
