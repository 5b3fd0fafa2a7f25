"""`safedl compare`: for each attack, its defenses in order."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from safedl.cli.output import note, print_json, print_rows
from safedl.errors import NotFoundError, UsageError, nearest
from safedl.evaluation import MOST_COMPARED, only_newest
from safedl.workspace import Workspace

if TYPE_CHECKING:
    from safedl.evaluation.comparison import Entry, Ranking
    from safedl.evaluation.statistics import Estimate
    from safedl.store.results import Selection


def compare(
    context: typer.Context,
    attack: Annotated[str | None, typer.Option(help="Only this attack.", metavar="NAME")] = None,
    profile: Annotated[
        str | None, typer.Option(help="Only this profile's latest experiment.", metavar="PROFILE")
    ] = None,
    dataset: Annotated[str | None, typer.Option(help="Only this data set.", metavar="NAME")] = None,
    model: Annotated[str | None, typer.Option(help="Only this model.", metavar="NAME")] = None,
    by: Annotated[
        str, typer.Option(help="The metric that ranks: final, mitigation, asr, seconds ...", metavar="METRIC")
    ] = "final",
    limit: Annotated[
        int, typer.Option(min=1, max=10**9, help="At most so many runs, the newest.", metavar="N")
    ] = MOST_COMPARED,
    json: Annotated[bool, typer.Option("--json", help="Print an array of rankings.")] = False,
    csv: Annotated[bool, typer.Option("--csv", help="Print CSV, one row per defense.")] = False,
    md: Annotated[bool, typer.Option("--md", help="Print Markdown tables.")] = False,
) -> None:
    """Rank the defenses of each attack, over all seeds in the store.

    Without a choice, on the data set and model of the newest defense.
    """
    from safedl import catalog
    from safedl.evaluation.comparison import compare as rank
    from safedl.store.results import results

    workspace: Workspace = context.obj
    metric = _metric(by)
    attack = catalog.attack(attack).name if attack else None
    chosen = _selection(workspace, attack, profile, dataset, model)
    found = results(workspace.db, chosen, limit)
    if chosen.dataset and not (attack or profile or dataset or model):
        newest = "defense" if any(result.kind == "defense" for result in found) else "run"
        note(
            f"{chosen.dataset} / {chosen.model}, as in the newest {newest}; "
            "choose others with --dataset, --model, --attack or --profile"
        )
    rankings = rank(found, metric)
    if json:
        print_json([_document(r) for r in rankings])
    elif csv:
        print_rows([_flat(r, e) for r in rankings for e in r.entries], as_csv=True)
    elif md:
        _print_markdown(workspace, rankings)
    else:
        for ranking in rankings:
            _print_table(ranking, metric)
    if not rankings:
        note("nothing to compare: no such completed runs")
    elif len(found) == limit:
        note(f"{only_newest(limit)}; choose with --attack, --dataset, --model, or raise --limit")


def _metric(name: str) -> str:
    """Return the metric that `--by` means; scores may be named without their prefix. Raises `UsageError`."""
    from safedl.evaluation.comparison import COMPARED

    short = {metric.removeprefix("score."): metric for metric in COMPARED}
    if name in COMPARED:
        return name
    if name not in short:
        raise UsageError(f"--by {name}: allowed are {', '.join(short)}.{nearest(name, short)}")
    return short[name]


def _selection(
    workspace: Workspace, attack: str | None, profile: str | None, dataset: str | None, model: str | None
) -> Selection:
    from safedl.store.results import Selection, newest_cell

    experiment = _experiment(workspace, profile) if profile else None
    if attack is None and profile is None and dataset is None and model is None and (cell := newest_cell(workspace.db)):
        dataset, model = cell
    return Selection(dataset, model, attack, experiment)


def _experiment(workspace: Workspace, profile: str) -> str:
    """Return the uid of a profile's latest experiment, by the profile's own name or by what its file is called."""
    from safedl.store.results import latest_experiment

    found = latest_experiment(workspace.db, profile)
    if found is None:
        from safedl.conclusions.gather import experiments_of
        from safedl.profile.load import load

        past = experiments_of(workspace.db, workspace.results, load(workspace.find_profile(profile)))
        found = past[0].record.uid if past else None
    if found is None:
        raise NotFoundError(f"profile '{profile}' has not run yet; run it: safedl run {profile}")
    return found


def _print_table(ranking: Ranking, metric: str) -> None:
    from safedl.evaluation.documents import marks

    harm = "adversarial_accuracy" if ranking.category == "evasion" else "asr"
    names = ["score.final", "score.mitigation", "score.cad", "score.cost", "clean_accuracy", harm]
    names += [metric] if metric not in names else []
    names = [n for n in names if any(n in e.values for e in ranking.entries)]
    rows = []
    for entry in ranking.entries:
        row: dict[str, Any] = {"place": entry.place, "defense": entry.defense}
        for name in names:
            row[_heading(name)] = _text(entry.values.get(name))
            if any(name in e.deltas for e in ranking.entries):
                row[f"Δ {_heading(name)}"] = _text(entry.deltas.get(name), sign=True)
        rows.append({**row, "seeds": entry.seeds, "marks": marks(entry)})
    title = f"{ranking.attack} on {ranking.dataset} / {ranking.model} ({ranking.recipe[:8]}): {ranking.note}"
    spare = [f"Δ {_heading(name)}" for name in names] + ["cost", "cad", "mitigation", "seeds", "marks"]
    spare = [key for key in (*spare, "final", "clean accuracy") if key != _heading(metric)]
    print_rows(rows, title=title, spare=spare, ways="--csv, --json, --md")


def _print_markdown(workspace: Workspace, rankings: tuple[Ranking, ...]) -> None:
    from safedl.evaluation.documents import ranking_sections
    from safedl.reports.links import links_from

    print("\n\n".join(ranking_sections(rankings, links_from(Path.cwd(), workspace.results), {})))


def _document(ranking: Ranking) -> dict[str, Any]:
    return {
        "dataset": ranking.dataset, "model": ranking.model, "category": ranking.category, "attack": ranking.attack,
        "recipe": ranking.recipe, "effective": ranking.effective, "note": ranking.note, "by": ranking.by,
        "entries": [
            {
                "defense": e.defense, "kind": e.kind, "place": e.place, "tied_with_best": e.tied_with_best,
                "pareto": e.pareto, "recipe": e.recipe, "runs": list(e.runs),
                "values": {n: _spread(v) for n, v in e.values.items()},
                "deltas": {n: _spread(v) for n, v in e.deltas.items()},
            }
            for e in ranking.entries
        ],
    }  # fmt: skip


def _flat(ranking: Ranking, entry: Entry) -> dict[str, Any]:
    """Return an entry as one row; all rows have the same columns."""
    from safedl.evaluation.comparison import COMPARED, DELTAS

    row: dict[str, Any] = {
        "dataset": ranking.dataset, "model": ranking.model, "category": ranking.category, "attack": ranking.attack,
        "attack_recipe": ranking.recipe, "effective": ranking.effective, "place": entry.place,
        "defense": entry.defense, "kind": entry.kind, "recipe": entry.recipe, "seeds": len(entry.runs),
        "tied_with_best": entry.tied_with_best, "pareto": entry.pareto,
    }  # fmt: skip
    for name in COMPARED:
        found = entry.values.get(name)
        row |= {
            name: found.mean if found else None,
            f"{name}_low": found.low if found else None,
            f"{name}_high": found.high if found else None,
        }
    return row | {f"{n}_delta": entry.deltas[n].mean if n in entry.deltas else None for n in DELTAS}


def _spread(found: Estimate) -> dict[str, Any]:
    return {"mean": found.mean, "low": found.low, "high": found.high, "seeds": found.count}


def _heading(name: str) -> str:
    return name.removeprefix("score.").replace("_", " ").replace("asr", "ASR")


def _text(found: Estimate | None, *, sign: bool = False) -> str | None:
    if found is None:
        return None
    return found.signed if sign else found.text
