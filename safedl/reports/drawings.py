"""The pictures of a run: images that it changed or removed, histograms, its trigger. Loads PIL and matplotlib."""

from __future__ import annotations

import numpy as np

from safedl.reports import files, plots, result
from safedl.reports.images import difference, grid, overlay, to_uint8
from safedl.reports.outcome import Outcome

SHEET = "contact_sheet.png"
COLUMNS = 8
TRIGGER = ("trigger", "mask", "overlay")


def examples(outcome: Outcome) -> list[tuple[str, bytes]]:
    """Return path and picture of each example; where the image was changed, the original stands to its left.

    Between an adversarial image and its original stands their difference, enlarged.
    """
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


def histograms(outcome: Outcome) -> list[tuple[str, str, bytes]]:
    """Return name, path and picture of the histograms a method asks for, and of a detector's scores per class."""
    drawn = [
        (name, plots.histograms({name: {"values": data}}, "value")[0]) for name, data in outcome.histograms.items()
    ]
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
        pictures = plots.histograms(series, "score (higher is more suspicious)")
        drawn += zip(outcome.classes, pictures, strict=True)
    return [(name, f"{result.HISTOGRAMS}/{files.file_name(i, name)}", data) for i, (name, data) in enumerate(drawn)]


def sheet(outcome: Outcome) -> list[tuple[str, bytes]]:
    """Return path and picture of the contact sheet, or nothing."""
    return [(SHEET, grid(outcome.sheet, columns=COLUMNS))] if outcome.sheet else []


def trigger(outcome: Outcome) -> list[tuple[str, bytes]]:
    """Return path and picture of a trigger, its mask, and an original image (or plain grey) with the trigger on it."""
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
