"""The Markdown report of a run: one writer for baselines, attacks, defenses and bounds."""

from __future__ import annotations

from typing import Any

from safedl import catalog
from safedl.catalog import AttackSpec, DefenseSpec
from safedl.plan import PERFECT, RANDOM
from safedl.reports import tables
from safedl.reports.markdown import Markup, blocks, bullets, escape, image, page, section, table
from safedl.reports.result import ENLARGED, example_key
from safedl.reports.scanned import render_scan
from safedl.reports.tables import Document

_ABOUT_BOUNDS = {
    PERFECT: "Exactly the poisoned samples are removed: what a detector without fault would reach.",
    RANDOM: "As many samples as the detector took are removed at random: what chance would reach.",
}
UNTRUSTED = "not used here: it was switched off, or a class has too few trusted images"


def render(document: Document) -> str:
    """Return the report of a run's document as Markdown; pictures are linked by the paths in the document."""
    if document["kind"] == "scan":
        return render_scan(document, _trigger(document), _setting(document))
    pictured = document.get(example_key(document)) or []
    return page(
        f"# {_title(document)}",
        _about(document),
        section("In short", bullets(_summary(document))),
        section("Notes", bullets(document["notes"])),
        section("Before and after" if document["kind"] != "baseline" else "Metrics", tables.comparison(document)),
        section("Per class", tables.classes(document)),
        section("Detection", tables.detection(document)),
        section("Removed samples" if "num_removed" in document else "Examples", _examples(document, pictured)),
        section("Trigger", _trigger(document)),
        section("Histograms", _histograms(document)),
        section("Details of the method", tables.details(document)),
        section("What was run", _setting(document), tables.parameters(document)),
        section("Terms", _terms(document)),
    )


def _specs(document: Document) -> tuple[AttackSpec | None, DefenseSpec | None]:
    return catalog.ATTACKS.get(document["attack"] or ""), catalog.DEFENSES.get(document["defense"] or "")


def _title(document: Document) -> Markup:
    attack, defense = _specs(document)
    attack_title = escape(attack.title if attack else document["attack"])
    if document["kind"] == "baseline":
        return Markup(f"Baseline: {escape(document['model'])} on {escape(document['dataset'])}")
    if document["kind"] == "attack":
        return Markup(f"{attack_title} on {escape(document['dataset'])}")
    name = defense.title if defense else tables.BOUNDS.get(document["defense"], document["defense"])
    return Markup(f"{escape(name)} against {attack_title}")


def _about(document: Document) -> Markup:
    """Say what the method is, where it comes from and what it was allowed to look at."""
    attack, defense = _specs(document)
    if document["kind"] == "baseline":
        return Markup("The clean model: trained on clean data, and what everything else is compared with.")
    if document["defense"] in _ABOUT_BOUNDS:
        return escape(_ABOUT_BOUNDS[document["defense"]])
    spec = attack if document["kind"] == "attack" else defense
    if spec is None:
        return Markup("")
    lines = {"": spec.summary, "Source: ": spec.paper}
    if isinstance(spec, DefenseSpec):
        unused = document.get("trusted_used") == 0 and spec.trusted
        lines["Trusted data: "] = UNTRUSTED if unused else spec.trusted or "none used"
        lines["Clean model: "] = spec.clean_model
        lines["Its training differs from the common recipe: "] = spec.recipe
    return blocks(*(escape(f"{label}{text.rstrip('.')}.", limit=1000) for label, text in lines.items() if text))


def _summary(document: Document) -> list[str]:
    """Return the result in a few sentences."""
    columns = list(tables.stages(document).values())
    before = columns[-2] if len(columns) > 1 else {}
    lines = [
        tables.sentence(tables.title(name), before.get(name), document["metrics"].get(name))
        for name in ("clean_accuracy", "asr", "adversarial_accuracy")
    ]
    if "adversarial_low" in document:
        low, high, images = (document[name] for name in ("adversarial_low", "adversarial_high", "test_images"))
        lines.append(f"{images} test images were attacked: the 95 % interval is {low:.3f} to {high:.3f}.")
    total, poisoned = document.get("num_total_samples"), document.get("num_poisoned_samples")
    if document["kind"] == "attack" and poisoned is not None:
        lines.insert(0, f"{poisoned} of {total} training samples were poisoned.")
    if document.get("num_removed") is not None:
        lines += _removal(document, total, poisoned)
    if document.get("suspicious") is not None:
        lines.append(f"Verdict: {'suspicious' if document['suspicious'] else 'nothing suspicious'}.")
        lines.append("The model was not changed.")
    return [line for line in lines if line]


def _removal(document: Document, total: int | None, poisoned: int | None) -> list[str]:
    removed = document["num_removed"]
    lines = [f"{removed} of {total or 'the'} training samples were removed." if removed else "Nothing was removed."]
    if poisoned is not None:
        caught = document["num_removed_poisoned"]
        lines.append(f"{caught} of {poisoned} poisoned samples were caught; {poisoned - caught} stayed in.")
    return lines


def _examples(document: Document, pictured: list[dict[str, Any]]) -> Markup:
    if not pictured:
        return Markup("")
    legend = "Of two pictures side by side, the left one is the original."
    if document["category"] == "evasion":
        legend = f"From left to right: the original, the perturbation ×{ENLARGED} around grey, the adversarial image."
    return blocks(legend, tables.examples(pictured))


def _trigger(document: Document) -> str:
    paths = document.get("trigger_images")
    if not paths:
        return ""
    return table(list(paths), [[image(name, path) for name, path in paths.items()]])


def _histograms(document: Document) -> str:
    entries = document.get("histograms")
    if not entries:
        return ""
    return table(["Name", "Histogram"], [[e["name"], image(f"values of {e['name']}", e["path"])] for e in entries])


def _setting(document: Document) -> Markup:
    return Markup(
        f"Data set {escape(document['dataset'])}, model {escape(document['model'])}, seed {document['seed']}. "
        f"Features come from layer {escape(document['layer'])}. Times stand under `timing` in the result file."
    )


def _terms(document: Document) -> Markup:
    used = [name for name in tables.TERMS if name in document["metrics"]]
    return bullets(f"{tables.DETECTION.get(name) or tables.title(name)}: {tables.TERMS[name]}." for name in used)
