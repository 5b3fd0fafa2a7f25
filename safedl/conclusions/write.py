"""The documents of Modules 3, 5 and 6, with their pictures."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Literal
from urllib.parse import quote

from safedl.conclusions.gather import Conclusions
from safedl.conclusions.pictures import Drawing, drawings, placed
from safedl.decision.report import Pictures, final_report
from safedl.evaluation.documents import defense_evaluation, defense_evaluation_report
from safedl.reports import files
from safedl.reports.links import RunLink, links_from
from safedl.risk.documents import risk_analysis, risk_report

RISK, RISK_REPORT = "risk_analysis.json", "risk_report.md"
COMPARISON, COMPARISON_REPORT = "defense_evaluation.json", "defense_evaluation_report.md"
WORST_CASE = "evasion/worst_case.json"
REPORT = "final_report.md"
PICTURES = "report_files"
KEYS = "drawn.json"
"""Which pictures lie beside it: their keys by name."""

Form = Literal["md", "html"]


def write(folder: Path, found: Conclusions) -> None:
    """Write all documents into a workspace's `results/`, each file atomically and after the pictures that it shows."""
    drawn = drawings(found)
    shown = placed(found, drawn, f"{PICTURES}/")
    _write_pictures(folder / PICTURES, drawn)
    files.remove_others(folder / PICTURES, drawn)
    link, name = links_from(folder, folder), found.profile.name
    risk = risk_report(name, found.assessments, found.advice, link, found.history, shown.risk_matrix)
    worst = found.facts.worst_cases
    comparison = defense_evaluation_report(name, found.rankings, link, shown.accuracy_asr, worst)
    files.write_text(folder / RISK_REPORT, f"{risk}\n")
    files.write_json(folder / RISK, risk_analysis(found.assessments, found.advice))
    files.write_text(folder / COMPARISON_REPORT, f"{comparison}\n")
    files.write_json(folder / COMPARISON, defense_evaluation(found.rankings))
    if worst:
        files.write_json(folder / WORST_CASE, [asdict(case) for case in worst])
    else:
        (folder / WORST_CASE).unlink(missing_ok=True)
    files.write_text(folder / REPORT, report(found, link, shown))


def write_report(folder: Path, found: Conclusions, target: Path, form: Form) -> None:
    """Write the final report alone: as `md` with its pictures in a folder beside it, or as one `html` file.

    `folder` is the workspace's `results/`, to which the runs' links lead.
    """
    link = links_from(target.parent, folder)
    drawn = drawings(found)
    if form == "html":
        from safedl.reports.html import page

        document = report(found, link, placed(found, drawn, ""))
        files.write_text(
            target, page(f"Final report: {found.profile.name}", document, {k: d.draw() for k, d in drawn.items()})
        )
        return
    beside = target.with_name(f"{target.stem}_files")  # another profile's documents may show those in `PICTURES`
    _write_pictures(beside, drawn)
    files.write_text(target, report(found, link, placed(found, drawn, f"{quote(beside.name)}/")))


def report(found: Conclusions, link: RunLink, shown: Pictures) -> str:
    """Return the final report as Markdown."""
    profile = found.profile
    return final_report(found.facts, found.decision, profile.acceptance, found.system, link, shown) + "\n"


def _write_pictures(folder: Path, drawn: Mapping[str, Drawing]) -> None:
    """Draw what is not there yet: a repeated run would spend most of its time on pictures that stay the same."""
    keys = {name: drawing.key for name, drawing in drawn.items()}
    try:
        there = dict(json.loads((folder / KEYS).read_text()))
    except (OSError, ValueError, TypeError):
        there = {}
    for name, drawing in drawn.items():
        if there.get(name) != keys[name] or not (folder / name).exists():
            files.write_bytes(folder / name, drawing.draw())
    files.write_json(folder / KEYS, keys)
