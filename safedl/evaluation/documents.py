"""What Module 5 writes: `defense_evaluation.json` and `defense_evaluation_report.md`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from safedl.evaluation.comparison import NONE, Entry, Ranking, told_apart
from safedl.evaluation.scores import SCORE_VERSION
from safedl.evaluation.statistics import Estimate
from safedl.evaluation.worst_case import WorstCase
from safedl.reports.links import RunLink, runs
from safedl.reports.markdown import Markup, blocks, escape, image, section, table

SCORES = ("mitigation", "cad", "cost", "final")
OUTCOMES = ("clean_accuracy", "asr", "adversarial_accuracy", "robust_accuracy", "tpr", "fpr", "removed", "seconds")


def defense_evaluation(rankings: Sequence[Ranking]) -> dict[str, Any]:
    """Return the content of `defense_evaluation.json`: category -> attack -> defense -> scores.

    Scores and metrics are means over seeds; `<name>_low` and `<name>_high` bound the 95 % interval, null for a single
    seed; `<name>_delta` is the change against the undefended model. Bounds and the row `none` stand beside them.
    """
    document: dict[str, Any] = {}
    for ranking in rankings:
        attacks = document.setdefault(ranking.category, {})
        attacks.setdefault(ranking.attack, {}).update({e.defense: _scores(e, ranking) for e in ranking.entries})
    return document


def defense_evaluation_report(
    profile: str,
    rankings: Sequence[Ranking],
    link: RunLink,
    pictures: Mapping[str, str] | None = None,
    worst: Sequence[WorstCase] = (),
) -> Markup:
    """Return `defense_evaluation_report.md`. `pictures`: by attack, the path of its plot of accuracy against ASR."""
    return blocks(
        f"# Defenses of {escape(profile)} compared",
        f"Scores of version {SCORE_VERSION}: final = (1 + mitigation) × CAD − 1, a gain divided by 1 + 0.1 × cost; "
        "0 is what doing nothing is worth. Means over seeds ± half of the 95 % t-interval; a single seed has none.",
        *ranking_sections(rankings, link, pictures or {}),
        section("Worst case over attacks", worst_case_table(worst, link)),
    )


def ranking_sections(rankings: Sequence[Ranking], link: RunLink, pictures: Mapping[str, str]) -> list[Markup]:
    """Return one section per ranking: whether the attack worked, the table, the plot."""
    return [
        section(
            f"{attack} on {r.dataset} / {r.model}",
            escape(f"{r.note[0].upper()}{r.note[1:]}.", limit=500),
            ranking_table(r, link),
            image(trade_off(r.attack, r.category), pictures[r.attack]) if r.attack in pictures else "",
        )
        for r, attack in zip(rankings, told_apart(rankings), strict=True)
    ]


def ranking_table(ranking: Ranking, link: RunLink) -> Markup:
    """Return a ranking as a table: places, scores, accuracy and harm with their changes, marks, runs."""
    harm = "adversarial_accuracy" if ranking.category == "evasion" else "asr"
    has_harm = any(harm in e.values for e in ranking.entries)
    columns = [
        "final",
        *SCORES[:3],
        "clean accuracy",
        "change",
        *([harm.replace("_", " "), "change"] if has_harm else []),
    ]
    header = ["place", "defense", *columns, "seconds", "seeds", "marks", "runs"]
    rows = []
    for entry in ranking.entries:
        scores = [_text(entry.values.get(f"score.{name}")) for name in ("final", "mitigation", "cad", "cost")]
        outcome = [_text(entry.values.get("clean_accuracy")), _text(entry.deltas.get("clean_accuracy"), sign=True)]
        if has_harm:
            outcome += [_text(entry.values.get(harm)), _text(entry.deltas.get(harm), sign=True)]
        seconds = entry.mean("seconds")
        cost = None if seconds is None or entry.kind == "attack" else Markup(f"{seconds:.1f}")
        rows.append(
            [entry.place, entry.defense, *scores, *outcome, cost, entry.seeds, marks(entry), runs(entry.runs, link)]
        )
    return table(header, rows)


def trade_off(attack: str, category: str) -> str:
    """Return the title of the plot of accuracy against harm."""
    return f"Accuracy against {'accuracy on adversarial images' if category == 'evasion' else 'ASR'} under {attack}"


def worst_case_table(found: Sequence[WorstCase], link: RunLink) -> Markup:
    """Return what withstands every attack at test time that was run, model by model; empty for fewer than two."""
    if not found:
        return Markup("")
    header = ["defense", "seed", "attacks", "images", "accuracy", "95 % interval", "weakest class", "runs"]
    rows = []
    for case in found:
        weakest = min(case.by_class, key=lambda name: case.by_class[name])
        rows.append(
            [
                case.defense or NONE, case.seed, list(case.attacks), case.images, case.accuracy,
                Markup(f"{case.low:.3f} to {case.high:.3f}"), f"{weakest} ({case.by_class[weakest]:.3f})",
                runs(case.runs, link),
            ]
        )  # fmt: skip
    return blocks("An image counts if it is classified right after each of the attacks.", table(header, rows))


def marks(entry: Entry) -> str:
    """Return what is to be said of an entry: best, tied with it, Pareto-optimal, bound."""
    words = []
    if entry.place == 1 and not entry.tied_with_best:
        # A first place among defenses that all do harm is no recommendation.
        words = ["best"] if (entry.mean("score.final") or 0.0) > 0 else ["first, worth no more than none"]
    words += ["tied with the first"] if entry.tied_with_best else []
    words += ["Pareto-optimal"] if entry.pareto else []
    words += ["bound"] if entry.kind == "bound" else []
    words += ["undefended"] if entry.defense == NONE else []
    return ", ".join(words)


def _scores(entry: Entry, ranking: Ranking) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for name in (*(f"score.{s}" for s in SCORES), *OUTCOMES):
        found, key = entry.values.get(name), name.removeprefix("score.")
        if found or name.startswith("score."):
            values[key] = found.mean if found else None
            values[f"{key}_low"] = found.low if found else None
            values[f"{key}_high"] = found.high if found else None
        if name in entry.deltas:
            values[f"{key}_delta"] = entry.deltas[name].mean
    return {
        "kind": "undefended" if entry.kind == "attack" else entry.kind,
        **values,
        "place": entry.place,
        "tied_with_best": entry.tied_with_best,
        "pareto": entry.pareto,
        "attack_effective": ranking.effective,
        "seeds": len(entry.runs),
        "scored_seeds": scored.count if (scored := entry.values.get("score.final")) else 0,
        "score_version": SCORE_VERSION,
        "runs": list(entry.runs),
    }


def _text(found: Estimate | None, *, sign: bool = False) -> Markup | None:
    """Return an estimate as a cell: as it is, or as a change with its sign."""
    if found is None:
        return None
    return Markup(found.signed if sign else found.text)
