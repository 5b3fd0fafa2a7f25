"""Write a finished run into its folder."""

from __future__ import annotations

from pathlib import Path

from safedl.loading import LOADING
from safedl.reports import files, result
from safedl.reports.outcome import Outcome, Pictures
from safedl.reports.report import render

RESULT = "result.json"
REPORT = "report.md"


def write(folder: Path, outcome: Outcome) -> result.Document:
    """Write `examples/`, `histograms/`, `report.md` and last `result.json` into a run's folder; return the document.

    Each file is written atomically, and what lies there already (weights, indices) is on disk before `result.json` is.
    The same outcome gives the same bytes.
    """
    with LOADING:
        from safedl.reports import drawings  # a plan that is done already draws nothing

    examples = drawings.examples(outcome)
    histograms = drawings.histograms(outcome)
    trigger = drawings.trigger(outcome)
    sheet = drawings.sheet(outcome)
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
