"""Copy a completed run to the paths below `results/` that other programs look for."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safedl import catalog
from safedl.reports import files, result
from safedl.reports.report import render
from safedl.reports.writer import RESULT

BASELINE = "baseline_accuracy.json"


@dataclass(frozen=True)
class _Place:
    """Where a run is published. A folder in `always` exists even without pictures."""

    folder: Path
    document: str
    report: str
    examples: str
    histograms: str
    always: tuple[str, ...]


def publish(
    folder: Path,
    results: Path,
    kind: str,
    category: str | None,
    attack: str | None,
    defense: str | None,
    bounds: Mapping[str, Mapping[str, Any]] | None = None,
) -> None:
    """Publish the run in `folder`: its document, report and pictures, in place of an earlier run's.

    `bounds` are the metrics of `perfect_removal` and `random_removal`, where they became known after the run; they
    go into the published document and report. A bound itself is not published. Every file is replaced
    atomically, and the document after all that it refers to. Raises `UsageError` for names outside the catalog.
    """
    if kind == "bound":
        return
    document: result.Document = json.loads((folder / RESULT).read_text())
    if bounds:
        document["bounds"] = files.jsonable(bounds)
    if kind == "baseline":
        files.write_json(results / BASELINE, document)
        return
    place = _place(results, category, attack, defense if kind == "defense" else None)
    moved = result.with_folders(document, place.examples, place.histograms)
    for target in place.always:
        (place.folder / target).mkdir(parents=True, exist_ok=True)
    copied = {
        place.examples: _copy_images(folder / result.EXAMPLES, place.folder / place.examples),
        place.histograms: _copy_images(folder / result.HISTOGRAMS, place.folder / place.histograms),
    }
    for name in moved.get("trigger_images", {}).values():
        files.write_bytes(place.folder / name, (folder / name).read_bytes())
    files.write_text(place.folder / place.report, render(moved))
    files.write_json(place.folder / place.document, moved)
    for target, names in copied.items():
        files.remove_others(place.folder / target, names)


def _place(results: Path, category: str | None, attack: str | None, defense: str | None) -> _Place:
    """Return where a run goes; only names that the catalog knows become paths."""
    attack = catalog.attack(attack or "").name
    folder = results / catalog.category(category or "") / attack
    if defense is None:
        return _Place(
            folder, f"{attack}_metrics.json", f"{attack}_report.md", result.EXAMPLES, result.HISTOGRAMS,
            (result.EXAMPLES,),
        )  # fmt: skip
    spec = catalog.defense(defense)
    name = spec.name
    return _Place(
        folder,
        f"{name}_results.json",
        f"{name}_report.md",
        spec.examples or f"{name}_examples",
        spec.histograms or f"{name}_histograms",
        tuple(filter(None, (spec.examples, spec.histograms))),
    )


def _copy_images(source: Path, target: Path) -> set[str]:
    """Copy all images and return their names."""
    images = sorted(source.glob("*.png"))
    for image in images:
        files.write_bytes(target / image.name, image.read_bytes())
    return {image.name for image in images}
