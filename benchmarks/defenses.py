"""Every defense against every attack it applies to, with bounds, over several seeds.

    python -m benchmarks.defenses --workspace /tmp/bench --data PATH [--seeds 0-2] [--datasets digits,fashionmnist]

The product itself is the harness: each row below becomes a profile, every cell a run in the workspace's store. So the
script can be stopped and started again; finished cells are linked. At the end it writes the tables to
`docs/benchmarks/defenses.md`, from the store alone (`--tables-only` does just that).
"""

from __future__ import annotations

import argparse
import itertools
import os
import platform
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from safedl.cli.live import PlainView
from safedl.cli.run import parse_seeds
from safedl.evaluation.statistics import estimate
from safedl.pipeline.driver import Request, drive, prepare
from safedl.profile.load import parse
from safedl.store.sql import query
from safedl.workspace import Workspace

DOCUMENT = Path(__file__).resolve().parent.parent / "docs" / "benchmarks" / "defenses.md"

DATASETS: dict[str, dict[str, Any]] = {
    "digits": {
        "dataset": {"name": "digits"},
        "training": {"epochs": 15, "batch_size": 64, "learning_rate": 0.002},
        "patch": 0.25,
        "target": 7,
    },
    "fashionmnist": {
        "dataset": {"name": "fashionmnist", "subset": 2000, "download": False},
        "training": {"epochs": 4, "batch_size": 64, "learning_rate": 0.001},
        "patch": 0.107,
        "target": 7,
    },
}

Variants = Sequence[tuple[str, Mapping[str, Any]]]

BACKDOOR_DEFENSES: Variants = (
    ("activation_clustering", {}),
    ("activation_clustering", {"trusted": False}),
    ("activation_clustering", {"variant": "literal"}),
    ("spectral_signatures", {}),
    ("spectral_signatures", {"trusted": False}),
    ("spectral_signatures", {"variant": "literal"}),
    ("anomaly_detection", {"type": "isolation_forest"}),
    ("anomaly_detection", {"type": "lof"}),
    ("pruning", {}),
    ("pruning", {"variant": "literal"}),
    ("fine_pruning", {}),
    ("model_inspection", {}),
)
FLIP_DEFENSES: Variants = (
    ("data_cleaning", {}),
    ("data_cleaning", {"variant": "literal"}),
    ("robust_loss", {"type": "gce"}),
    ("robust_loss", {"type": "symmetric_cross_entropy"}),
    ("robust_loss", {"type": "label_smoothing"}),
    ("per_class_monitoring", {}),
)
CLEAN_LABEL_DEFENSES: Variants = (
    ("provenance_tracking", {}),
    ("influence_functions", {}),
    ("influence_functions", {"method": "hessian_inverse"}),
    ("robust_loss", {"type": "gce"}),
)
DIAGNOSES = ("model_inspection", "per_class_monitoring")
"""Defenses that change nothing: what they say is what counts."""
DETECTORS = ("activation_clustering", "spectral_signatures", "anomaly_detection", "model_inspection")


@dataclass(frozen=True)
class Row:
    """One attack with one setting, and the defenses to try against it."""

    title: str
    category: str
    attack: str
    params: Mapping[str, Any]
    defenses: Variants
    seeds: tuple[int, ...] | None = field(default=None)
    """Seeds of its own, where the row needs others than all."""


def rows(target: int, patch: float) -> list[Row]:
    """Return the rows of the table for a data set."""
    static = {"patch_size_ratio": patch, "poison_fraction": 0.05, "target_class": target}
    learned = {"poison_fraction": 0.1, "target_class": target}
    clean_label = {
        "perturbation_method": "feature_collision",
        "target_class": 3,
        "fraction_poison": 1.0,
        "epsilon": 0.3,
        "max_iterations": 30,
    }
    found = [
        Row("static patch 5 %", "backdoor", "static_patch", static, BACKDOOR_DEFENSES),
        Row("learned trigger 10 %", "backdoor", "learned_trigger", learned, BACKDOOR_DEFENSES),
    ]
    for (strategy, word), rate in itertools.product(
        (("many_to_one", "many to one"), ("fully_random", "random")), (0.2, 0.4)
    ):
        params = {"strategy": strategy, "flip_rate": rate}
        if strategy == "many_to_one":
            params["target_class"] = target
        title = f"label flipping {rate:.0%}, {word}"
        found.append(Row(title, "data_poisoning", "label_flipping", params, FLIP_DEFENSES))
    found.append(Row("clean label", "data_poisoning", "clean_label", clean_label, CLEAN_LABEL_DEFENSES))
    nothing = {**static, "poison_fraction": 0.0}
    clean = tuple(v for v in BACKDOOR_DEFENSES if v[0] in DETECTORS)
    found.append(Row("no poison (backdoor)", "backdoor", "static_patch", nothing, clean))
    no_flips = {"strategy": "fully_random", "flip_rate": 0.0}
    found.append(Row("no poison (labels)", "data_poisoning", "label_flipping", no_flips, FLIP_DEFENSES))
    no_changes = {**clean_label, "fraction_poison": 0.0}
    found.append(Row("no poison (clean label)", "data_poisoning", "clean_label", no_changes, CLEAN_LABEL_DEFENSES[:3]))
    only: Variants = (("model_inspection", {}),)
    found.append(Row("no poison (five models)", "backdoor", "static_patch", nothing, only, seeds=(0, 1, 2, 3, 4)))
    private = (("dp_training", {"epsilon": 2.0, "delta": 1e-5}),)
    for strategy, rate in (("fully_random", 0.0), ("fully_random", 0.4)):
        title = f"label flipping {rate:.0%}, random"
        params = {"strategy": strategy, "flip_rate": rate}
        found.append(Row(title, "data_poisoning", "label_flipping", params, private))
    return found


def profiles(dataset: str, row: Row) -> Iterator[str]:
    """Yield the profiles of a row: each holds a defense at most once, so variants take several."""
    settings = DATASETS[dataset]
    waiting = list(row.defenses)
    while waiting:
        chosen: dict[str, Mapping[str, Any]] = {}
        for name, params in list(waiting):
            if name not in chosen:
                chosen[name] = params
                waiting.remove((name, params))
        yield yaml.safe_dump(
            {
                "name": f"{dataset}-{row.attack}",
                "dataset": settings["dataset"],
                "model": {"name": "cnn"},
                "training": settings["training"],
                "attack_overrides": {row.category: {row.attack: dict(row.params)}},
                "defense_config": {
                    row.category: {row.attack: {"defenses": list(chosen), **{k: dict(v) for k, v in chosen.items()}}}
                },
            },
            sort_keys=False,
        )


def execute(
    workspace: Workspace, dataset: str, row: Row, seeds: Sequence[int], workers: int | None, compute: bool
) -> list[list[str]]:
    """Run what a row lacks, if asked to, and return the uids of its completed runs, profile by profile."""
    found = []
    for text in profiles(dataset, row):
        request = Request(profile=parse(text), seeds=tuple(row.seeds or seeds), workers=workers)
        prepared = prepare(workspace, request)
        missing = len(prepared.plan.stages) - len(prepared.finished)
        if compute and missing:
            print(f"--- {dataset}: {row.title}: {missing} to do", file=sys.stderr)
            drive(workspace, prepared, PlainView().handle)
            prepared = prepare(workspace, request)
        found.append(list(prepared.finished.values()))
    return found


COLUMNS = ("clean_accuracy", "asr", "tpr", "fpr", "precision", "auroc", "epsilon_spent", "seconds")
HEADERS = ("clean accuracy", "ASR", "TPR", "FPR", "precision", "AUROC", "ε spent", "seconds")


def table(workspace: Workspace, row: Row, uids: Sequence[Sequence[str]]) -> str:
    """Return the row's Markdown table, from the store: mean ± half the 95 % interval over seeds.

    Bounds are those of the first profile, which has the default variants: they repeat their number of removals.
    """
    metrics = ", ".join(f"(select value from metric where run_id = r.id and name = '{c}') as {c}" for c in COLUMNS)
    answer = query(
        workspace.db,
        f"""select r.id, r.uid, r.kind, r.defense, r.detector, r.params, {metrics},
        (select value from metric where run_id = r.parent_id and name = 'clean_accuracy') as baseline
        from run r where r.kind != 'baseline' and r.uid in ({_quoted(itertools.chain(*uids))})
        and (r.kind != 'bound' or r.uid in ({_quoted(uids[0])})) order by r.kind, r.id""",
        limit=100_000,
    )
    runs = [dict(zip(answer.columns, values, strict=True)) for values in answer.rows]
    groups: dict[str, list[dict[str, Any]]] = {}
    for run in runs:
        groups.setdefault(_name(run, row), []).append(run)
    lines = [f"| defense | seeds | {' | '.join(HEADERS)} |", f"|---|---:|{'---:|' * len(HEADERS)}"]
    for name, members in groups.items():
        cells = [_cell([m[c] for m in members if m[c] is not None], c) for c in COLUMNS]
        lines.append(f"| {name} | {len(members)} | {' | '.join(cells)} |")
    baseline = [r["baseline"] for r in runs if r["kind"] == "attack"]
    named = [f"{n}: {_named(workspace, members)}" for n, members in groups.items() if n.startswith(DIAGNOSES)]
    lines += ["", f"Classes named, seed by seed. {'; '.join(named)}."] if named else []
    return f"Baseline accuracy {_cell(baseline, '')}.\n\n" + "\n".join(lines)


def _named(workspace: Workspace, runs: Sequence[Mapping[str, Any]]) -> str:
    """Return the classes that each run of a diagnosis accuses."""
    found = []
    for run in runs:
        details = (workspace.result(run["uid"]) or {})["details"]
        classes = details.get("suspicious_classes", details.get("flagged_classes", ()))
        found.append(", ".join(classes) or "none")
    return " | ".join(found)


def _quoted(uids: Iterable[str]) -> str:
    return ", ".join(f"'{uid}'" for uid in uids)


def _name(run: Mapping[str, Any], row: Row) -> str:
    """Return what a run is called in the table: its defense, and what sets it apart from its default."""
    if run["kind"] == "bound":
        return f"*{run['defense']}{' as ' + run['detector'] if run['detector'] else ''}*"
    if run["kind"] == "attack":
        return "*none*"
    params = yaml.safe_load(run["params"])
    variants = [p for n, p in row.defenses if n == run["defense"] and p]
    for variant in sorted(variants, key=len, reverse=True):
        if all(params.get(f"defense.{k}") == v for k, v in variant.items()):
            return f"{run['defense']} ({', '.join(f'{k}: {v}' for k, v in variant.items())})"
    return str(run["defense"])


def _cell(values: Sequence[float], name: str) -> str:
    if not values:
        return ""
    found = estimate(values)
    digits = 1 if name == "seconds" else 3
    half = (
        (found.high - found.low) / 2 if len(values) > 1 and found.high is not None and found.low is not None else None
    )
    return f"{found.mean:.{digits}f}" + (f" ± {half:.{digits}f}" if half is not None else "")


def main() -> None:
    """Run what is missing and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workspace", type=Path, required=True)
    parser.add_argument("--data", type=Path, help="folder with the data sets")
    parser.add_argument("--seeds", default="0-2")
    parser.add_argument("--datasets", default="digits,fashionmnist")
    parser.add_argument("--workers", type=int)
    parser.add_argument("--tables-only", action="store_true", help="run nothing; write tables of what is there")
    parser.add_argument("--only", default="", help="only rows whose title contains this")
    options = parser.parse_args()
    if options.data:
        os.environ["SAFEDL_DATA"] = str(options.data.absolute())
    workspace = Workspace.open(options.workspace)
    seeds = parse_seeds(options.seeds)
    sections = []
    for dataset in options.datasets.split(","):
        settings = DATASETS[dataset]
        sections.append(f"## {dataset}\n\nRecipe: `{settings['training']}`, model `cnn`, data `{settings['dataset']}`.")
        for row in rows(settings["target"], settings["patch"]):
            if options.only in row.title:
                uids = execute(workspace, dataset, row, seeds, options.workers, not options.tables_only)
                parameters = ", ".join(f"`{k}: {v}`" for k, v in row.params.items())
                sections.append(f"### {dataset}: {row.title}\n\n{parameters}\n\n{table(workspace, row, uids)}")
                write(sections)


def machine() -> str:
    """Say what the figures were measured on."""
    from torch.cpu import get_capabilities

    name = get_capabilities().get("cpu_name") or platform.machine()
    return f"{os.cpu_count()} cores ({name}), {platform.system()}, CPU only"


def write(sections: Sequence[str]) -> None:
    """Write the document."""
    head = (
        "# Defenses against attacks\n\nMean ± half the 95 % interval over seeds. *none*, *random_removal* and "
        "*perfect_removal* are the bounds. Seconds are the defense's own, with its retraining; one thread each.\n\n"
        f"Made by `python -m benchmarks.defenses` on {machine()}.\n"
    )
    DOCUMENT.parent.mkdir(parents=True, exist_ok=True)
    DOCUMENT.write_text(head + "\n" + "\n\n".join(sections) + "\n")


if __name__ == "__main__":
    main()
