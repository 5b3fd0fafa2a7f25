"""Write a finished run into its folder."""

from __future__ import annotations

from pathlib import Path

from safedl.loading import LOADING
from safedl.reports import files, result
from safedl.reports.outcome import Outcome, Pictures
from safedl.reports.report import render

RESULT = "result.json"
REPORT = "report.md"
SHEET = "contact_sheet.png"
COLUMNS = 8
TRIGGER = ("trigger", "mask", "overlay")


def write(folder: Path, outcome: Outcome) -> result.Document:
    """Write `examples/`, `histograms/`, `report.md` and last `result.json` into a run's folder; return the document.

    Each file is written atomically, and what lies there already (weights, indices) is on disk before `result.json` is.
    The same outcome gives the same bytes.
    """
    examples = _draw_examples(outcome)
    histograms = _draw_histograms(outcome)
    trigger = _draw_trigger(outcome)
    sheet = _draw_sheet(outcome)
    pictures = Pictures(
        tuple(path for path, _ in examples),
        tuple((name, path) for name, path, _ in histograms),
        {path.removesuffix(".png"): path for path, _ in trigger},
        sheet[0][0] if sheet else None,
    )
    for path, data in (*examples, *((path, data) for _, path, data in histograms), *trigger, *sheet):
        files.write_bytes(folder / path, data)
    document = result.build(outcome, pictures)
    files.write_text(folder / REPORT, render(document))
    files.sync_folder(folder)
    files.write_json(folder / RESULT, document)
    return document


def _draw_examples(outcome: Outcome) -> list[tuple[str, bytes]]:
    """Return path and picture of each example; where the image was changed, the original stands to its left.

    Between an adversarial image and its original stands their difference, enlarged.
    """
    with LOADING:
        from safedl.reports.images import difference, grid

    drawn = []
    for position, example in enumerate(outcome.examples, start=1):
        images = [example.image]
        if example.original is not None and (example.original != example.image).any():
            between = []
            if outcome.category == "evasion":
                between = [difference(example.original, example.image, result.ENLARGED)]
            images = [example.original, *between, example.image]
        name = files.file_name(position, f"sample_{example.index}")
        drawn.append((f"{result.EXAMPLES}/{name}", grid(images)))
    return drawn


def _draw_histograms(outcome: Outcome) -> list[tuple[str, str, bytes]]:
    """Return name, path and picture of the histograms a method asks for, and of a detector's scores per class."""
    with LOADING:
        from safedl.reports.plots import histograms

    drawn = [(name, histograms({name: {"values": data}}, "value")[0]) for name, data in outcome.histograms.items()]
    if outcome.scores is not None and outcome.labels is not None:
        if outcome.poisoned is None:
            groups = {"samples": outcome.labels >= 0}
        else:
            groups = {"clean": ~outcome.poisoned, "poisoned": outcome.poisoned}
        series = {
            f"Class {name}": {
                group: outcome.scores[member & (outcome.labels == label)] for group, member in groups.items()
            }
            for label, name in enumerate(outcome.classes)
        }
        pictures = histograms(series, "score (higher is more suspicious)")
        drawn += zip(outcome.classes, pictures, strict=True)
    return [(name, f"{result.HISTOGRAMS}/{files.file_name(i, name)}", data) for i, (name, data) in enumerate(drawn)]


def _draw_sheet(outcome: Outcome) -> list[tuple[str, bytes]]:
    """Return path and picture of the contact sheet, or nothing."""
    with LOADING:
        from safedl.reports.images import grid

    return [(SHEET, grid(outcome.sheet, columns=COLUMNS))] if outcome.sheet else []


def _draw_trigger(outcome: Outcome) -> list[tuple[str, bytes]]:
    """Return path and picture of a trigger, its mask, and an original image (or plain grey) with the trigger on it."""
    with LOADING:
        import numpy as np

        from safedl.reports.images import grid, overlay, to_uint8

    if outcome.trigger is None or outcome.trigger_mask is None:
        return []
    originals = [e.original for e in outcome.examples if e.original is not None]
    base = originals[0] if originals else np.full(outcome.trigger.shape, 128, np.uint8)
    images = (
        to_uint8(outcome.trigger),
        to_uint8(outcome.trigger_mask),
        overlay(base, outcome.trigger, outcome.trigger_mask),
    )
    return [(f"{name}.png", grid([picture])) for name, picture in zip(TRIGGER, images, strict=True)]
