"""The report of a scan: verdict, evidence, what could not be seen, and the suspects."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from safedl.reports import tables
from safedl.reports.markdown import Markup, blocks, bullets, escape, image, page, section, table
from safedl.reports.tables import Document


def render_scan(document: Document, trigger: str, setting: str) -> str:
    """Return a scan's report as Markdown; `trigger` and `setting` are sections that all reports share."""
    return page(
        f"# Scan of {escape(document['dataset'])}: {document['verdict']}",
        _about(document),
        section("Evidence", bullets(document["evidence"] or ["Nothing was found."])),
        section("Looked into and found harmless", bullets(document["dismissed"])),
        section("What this scan could not have seen", bullets(document["limits"])),
        section("Suspects", _suspects(document)),
        section("Reconstructed trigger", trigger),
        section("Detectors", _detectors(document["detectors"])),
        section("The model", _model(document)),
        section("What was run", setting, tables.parameters(document)),
    )


def _about(document: Document) -> Markup:
    trusted = document["trusted_used"]
    calibrated = f"{trusted} trusted images" if trusted else "the samples that each detector leaves alone"
    return escape(
        f"{document['samples']} images were examined as they came; no attack was simulated. Scores are calibrated on "
        f"{calibrated}: what a detector flags scores higher than all but {100 * document['false_alarm_rate']:.3g}% of "
        "them; what is listed for a trait alone may score lower.",
        limit=1000,
    )


def _suspects(document: Document) -> Markup:
    if not document["suspects"]:
        return Markup("")
    lines = [escape(f"{document['suspects']} of {document['samples']} images are suspicious.")]
    sheet = document.get("contact_sheet")
    if sheet:
        lines += [escape("The first of them, in the order of the list:"), image("contact sheet of suspects", sheet)]
    return blocks(*lines)


def _detectors(detectors: Mapping[str, Mapping[str, Any]]) -> Markup:
    rows: list[Sequence[Any]] = [
        [name, found["flagged"], ", ".join(found["classes"]) or "none"] for name, found in detectors.items()
    ]
    return table(["Detector", "Images it flags", "Classes it holds suspicious"], rows)


def _model(document: Document) -> Markup:
    found = document.get("model_scan")
    if not found:
        return Markup("")
    rows: list[Sequence[Any]] = [
        [name, values["trigger_size"], values["reference_size"], values["anomaly_index"]]
        for name, values in found["classes"].items()
    ]
    head = ["Class", "Smallest trigger", "The same in a reference model", "Anomaly index"]
    return blocks(escape(found["sentence"], limit=1000), table(head, rows))
