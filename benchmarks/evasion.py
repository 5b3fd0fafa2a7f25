"""What attacks at test time do to a classifier on Fashion-MNIST, and what of four defenses withstands them.

    python -m benchmarks.evasion --workspace /tmp/evasion --data PATH [--seeds 0] [--images 1000] [--tables-only]

The product itself is the harness, so the script can be stopped and started again. It writes
`docs/benchmarks/evasion.md` from the runs' results.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from benchmarks.defenses import machine
from safedl.cli.live import PlainView
from safedl.cli.run import parse_seeds
from safedl.evaluation.statistics import estimate
from safedl.evaluation.worst_case import worst_cases
from safedl.pipeline.driver import Request, drive, prepare
from safedl.profile.load import parse
from safedl.workspace import Workspace

DOCUMENT = Path(__file__).resolve().parent.parent / "docs" / "benchmarks" / "evasion.md"
EPSILON = 0.1
TRAINING = {"epochs": 4, "batch_size": 64, "learning_rate": 0.001}
DATASET = {"name": "fashionmnist", "subset": 2000, "download": False}
EVERY = ("adversarial_training", "randomized_smoothing", "jpeg_preprocessing", "gradient_masking")
CHEAP = ("adversarial_training", "jpeg_preprocessing", "gradient_masking")
"""Smoothing answers by 100 copies of an image: black boxes that ask a thousand times would take hours."""


def attacks(images: int) -> dict[str, tuple[dict[str, Any], Sequence[str]]]:
    """Return parameters and defenses of each attack; the slow ones get fewer images."""
    pgd = {"epsilon": EPSILON, "alpha": EPSILON / 4, "num_iter": 20}
    few = min(images, 200)
    return {
        "fgsm": ({"epsilon": EPSILON, "max_samples": images}, EVERY),
        "pgd": ({**pgd, "max_samples": images}, EVERY),
        "cw": ({"epsilon": 1.5, "max_samples": few}, CHEAP),
        "deepfool": ({"epsilon": 1.5, "max_samples": few}, CHEAP),
        "nes": ({"epsilon": EPSILON, "num_queries": 1000, "max_samples": few}, CHEAP),
        "spsa": ({"epsilon": EPSILON, "num_steps": 40, "max_samples": few}, CHEAP),
        "square": ({"epsilon": EPSILON, "max_samples": few}, CHEAP),
        "hopskipjump": ({"epsilon": 1.5, "max_samples": few}, ("adversarial_training",)),
        "transfer": ({**pgd, "max_samples": images, "substitute_model": {"name": "mlp"}}, CHEAP),
    }


def profile(images: int) -> str:
    """Return the profile of the whole table."""
    chosen = attacks(images)
    return yaml.safe_dump(
        {
            "name": "evasion-benchmark",
            "dataset": DATASET,
            "model": {"name": "cnn"},
            "training": TRAINING,
            "attack_overrides": {"evasion": {name: params for name, (params, _) in chosen.items()}},
            "defense_config": {
                "evasion": {
                    name: {"defenses": list(defenses), "adversarial_training": {"epsilon": EPSILON}}
                    for name, (_, defenses) in chosen.items()
                }
            },
        },
        sort_keys=False,
    )


def document(results: Sequence[Mapping[str, Any]]) -> str:
    """Return the tables of all completed runs."""
    attacked = [r for r in results if r["attack"]]
    groups: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for result in attacked:
        groups.setdefault((result["attack"], result["defense"] or "none"), []).append(result)
    header = ("attack", "defense", "seeds", "images", "clean", "adversarial", "made for none", "unaware",
              "queries", "L∞", "L2", "seconds")  # fmt: skip
    lines = [f"| {' | '.join(header)} |", f"|---|---|{'---:|' * (len(header) - 2)}"]
    for (attack, defense), runs in groups.items():
        metrics = [
            _mean(runs, "metrics", name)
            for name in ("clean_accuracy", "adversarial_accuracy", "static_adversarial_accuracy",
                         "naive_adversarial_accuracy")
        ]  # fmt: skip
        details = [_mean(runs, "details", n) for n in ("queries_mean", "perturbation_linf", "perturbation_l2")]
        images = runs[0]["details"]["test_images"]
        seconds = f"{sum(r['timing']['seconds'] for r in runs) / len(runs):.0f}"
        lines.append(f"| {' | '.join([attack, defense, str(len(runs)), str(images), *metrics, *details, seconds])} |")
    return "\n".join(lines) + "\n\n" + _certificates(attacked) + "\n\n" + _worst(attacked)


def _mean(runs: Sequence[Mapping[str, Any]], section: str, name: str) -> str:
    values = [r[section][name] for r in runs if r[section].get(name) is not None]
    return estimate(values).text if values else ""


def _certificates(results: Sequence[Mapping[str, Any]]) -> str:
    """Return the certified accuracy of the smoothed models, one row a seed."""
    rows = {r["seed"]: r for r in results if r["defense"] == "randomized_smoothing"}
    if not rows:
        return ""
    radii = list(next(iter(rows.values()))["details"]["certified_accuracy_by_radius"])
    lines = [f"| seed | images | {' | '.join(f'r ≥ {r}' for r in radii)} |", f"|---:|---:|{'---:|' * len(radii)}"]
    for seed, result in rows.items():
        curve = result["details"]["certified_accuracy_by_radius"]
        cells = [f"{curve[r]:.3f}" for r in radii]
        lines.append(f"| {seed} | {result['details']['certified_images']} | {' | '.join(cells)} |")
    sigma = next(iter(rows.values()))["params"]["sigma"]
    return f"Certified accuracy of randomized smoothing, σ = {sigma}, by L2 radius:\n\n" + "\n".join(lines)


def _worst(results: Sequence[Mapping[str, Any]]) -> str:
    """Return what withstands all attacks that were run, image by image."""
    lines = ["| defense | seed | attacks | images | accuracy | 95 % interval |", "|---|---:|---|---:|---:|---|"]
    for case in worst_cases(results):
        interval = f"{case.low:.3f} to {case.high:.3f}"
        row = (
            case.defense or "none",
            case.seed,
            ", ".join(case.attacks),
            case.images,
            f"{case.accuracy:.3f}",
            interval,
        )
        lines.append(f"| {' | '.join(map(str, row))} |")
    return "Worst case over the attacks, image by image:\n\n" + "\n".join(lines)


def main() -> None:
    """Run what is missing and write the document."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workspace", type=Path, required=True)
    parser.add_argument("--data", type=Path, help="folder with the data sets")
    parser.add_argument("--seeds", default="0")
    parser.add_argument("--images", type=int, default=1000, help="test images for the quick attacks")
    parser.add_argument("--workers", type=int)
    parser.add_argument("--tables-only", action="store_true", help="run nothing; write tables of what is there")
    options = parser.parse_args()
    if options.data:
        os.environ["SAFEDL_DATA"] = str(options.data.absolute())
    workspace = Workspace.open(options.workspace)
    request = Request(profile=parse(profile(options.images)), seeds=parse_seeds(options.seeds), workers=options.workers)
    prepared = prepare(workspace, request)
    if not options.tables_only:
        drive(workspace, prepared, PlainView().handle)
        prepared = prepare(workspace, request)
    results = [found for uid in prepared.finished.values() if (found := workspace.result(uid))]
    text = (
        "# Attacks at test time, and what withstands them\n\n"
        f"Fashion-MNIST, `{DATASET}`, `cnn`, recipe `{TRAINING}`; ε = {EPSILON} (L∞), 1.5 (L2). *adversarial*: under "
        "an attack that knows the defense; *made for none*: on adversarial images of the undefended model; "
        "*unaware*: under one that differentiates a guard as it stands. Norms are means over the images that were "
        "fooled, queries over those that were right before. Seconds: what the attack (none) or the defense takes.\n\n"
        f"Made by `python -m benchmarks.evasion` on {machine()}.\n\n"
    )
    DOCUMENT.write_text(text + document(results) + "\n")


if __name__ == "__main__":
    main()
