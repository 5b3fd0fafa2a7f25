"""The tables of a report, each made from the document of a run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from safedl.plan import PERFECT, RANDOM
from safedl.reports.markdown import Markup, blocks, difference, exact, image, number, section, table

Document = Mapping[str, Any]
"""The document of a run, as `result.build` makes it."""

METRICS = {
    "clean_accuracy": "Clean accuracy",
    "asr": "Attack success rate (ASR)",
    "robust_accuracy": "Robust accuracy",
    "adversarial_accuracy": "Adversarial accuracy",
    "static_adversarial_accuracy": "Accuracy on images made for the undefended model",
    "naive_adversarial_accuracy": "Accuracy under an attack unaware of the defense",
    "source_target_rate": "Source-to-target rate",
}
TERMS = {
    "clean_accuracy": "share of untouched test images that are classified correctly",
    "asr": "share of triggered test images, whose true class is not the target, that are classified as the target",
    "robust_accuracy": "share of triggered test images that are still classified as their true class",
    "adversarial_accuracy": "share of the attacked test images that are classified correctly before and after",
    "static_adversarial_accuracy": "the same for adversarial images that were made for the undefended model",
    "naive_adversarial_accuracy": "the same for an attacker who differentiates the defended model as it stands",
    "success_rate": "share of the images classified correctly before the attack that are not after it",
    "source_target_rate": "share of the source classes' test images that are given the planted wrong label",
    "tpr": "share of the poisoned samples that were flagged",
    "fpr": "share of the clean samples that were flagged",
    "precision": "share of the flagged samples that were poisoned",
    "auroc": "chance that a poisoned sample scores higher than a clean one",
}
DETECTION = {"tpr": "True positive rate", "fpr": "False positive rate", "precision": "Precision", "auroc": "AUROC"}
BOUNDS = {RANDOM: "Random removal", PERFECT: "Perfect removal"}
ROWS = 50
"""Longest table of a method's own details; the rest stands in the result file."""

_COUNTS = ("attack_success_", "per_class_attack_success_")
_OUTSIDE = ("seconds", "memory", "score.")


def stages(document: Document) -> dict[str, Mapping[str, float | None]]:
    """Return the metrics to compare, by column: from the clean model to the one at hand."""
    kind = document["kind"]
    if kind == "baseline":
        return {"Baseline": document["metrics"]}
    if kind == "attack":
        return {"Baseline": document["baseline"] or document["before"], "Attacked": document["metrics"]}
    last = "Defended" if kind == "defense" else BOUNDS.get(document["defense"], "After removal")
    return {"Baseline": document["baseline"], "Attacked": document["before"], last: document["metrics"]}


def title(metric: str) -> str:
    """Return what a metric is called in a report."""
    return METRICS.get(metric, metric.replace("_", " ").capitalize())


def comparison(document: Document) -> Markup:
    """Return overall metrics before and after, their change, and the bounds as far as they are known."""
    columns = stages(document)
    after = document["metrics"]
    bounds = {BOUNDS[name]: values for name, values in document["bounds"].items() if name in BOUNDS}
    header = ["Metric", *columns, *(["Change"] if len(columns) > 1 else []), *bounds]
    rows = []
    for name in _compared(document):
        row: list[Any] = [title(name), *(values.get(name) for values in columns.values())]
        if len(columns) > 1:
            row.append(Markup(difference(after.get(name), list(columns.values())[-2].get(name))))
        rows.append([*row, *(values.get(name) for values in bounds.values())])
    return table(header, rows)


def classes(document: Document) -> Markup:
    """Return the metrics that exist per class, before and after."""
    names: list[str] = document["class_names"]
    header, columns = ["Class"], []
    for metric, heading in METRICS.items():
        for stage, values in stages(document).items():
            column = [values.get(f"{metric}.{name}") for name in names]
            if any(value is not None for value in column):
                header.append(f"{heading.removesuffix(' (ASR)')}, {stage.lower()}")
                columns.append(column)
    return table(header, zip(names, *columns, strict=True)) if columns else Markup("")


def detection(document: Document) -> Markup:
    """Return how well the poison was found, beside the bounds as far as they are known; empty without a removal."""
    if "num_removed" not in document:
        return Markup("")
    metrics, bounds = document["metrics"], document["bounds"]
    known = {BOUNDS[name]: values for name, values in bounds.items() if name in BOUNDS}
    rows = [
        [DETECTION[name], metrics.get(name), *(values.get(name) for values in known.values())]
        for name in DETECTION
        if name in metrics
    ]
    counts = [["Removed samples", document["num_removed"], *(_count(values) for values in known.values())]]
    return table(["Measure", "Value", *known], [*rows, *counts])


def examples(entries: list[dict[str, Any]]) -> Markup:
    """Return example pictures with their labels, and whether they really were poisoned."""
    scored = any(entry["score"] is not None for entry in entries)
    predicted = any("predicted_label" in entry for entry in entries)
    trained = any(entry["poisoned"] is not None for entry in entries)
    header = ["Picture", "Sample", "True label", *(["Given label", "Really poisoned"] if trained else [])]
    header += [*(["Predicted label"] if predicted else []), *(["Score"] if scored else [])]
    rows = []
    for entry in entries:
        row = [
            image(f"sample {entry['index']}", entry["path"]),
            entry["index"],
            entry["true_class"],
            *([entry["given_class"], entry["poisoned"]] if trained else []),
        ]
        row += [entry.get("predicted_class")] if predicted else []
        row += [entry["score"]] if scored else []
        rows.append(row)
    return table(header, rows)


def details(document: Document) -> Markup:
    """Return what the method alone tells: one table of plain values, and one for each nested one."""
    params = document["params"]
    told = {
        key: value
        for key, value in document["details"].items()
        if not key.startswith(_COUNTS) and (key not in params or params[key] != value)
    }
    nested = {key: value for key, value in told.items() if _nested(value)}
    flat = {key: value for key, value in told.items() if key not in nested}
    return blocks(
        table(["Key", "Value"], ([key, value] for key, value in flat.items())) if flat else "",
        *(section(key, _nested_table(value), level=3) for key, value in nested.items()),
    )


def parameters(document: Document) -> Markup:
    """Return the whole configuration of the run, one parameter a row."""
    rows = [[key, exact(value)] for key, value in document["configuration"].items()]
    return table(["Parameter", "Value"], rows)


def _compared(document: Document) -> list[str]:
    """Return the overall metrics to compare: known ones first, then any other that is neither a detail nor a cost."""
    present = [
        name for name in document["metrics"]
        if "." not in name and name not in document["details"] and name not in DETECTION
        and name != "removed" and not name.startswith(_OUTSIDE)
    ]  # fmt: skip
    return [name for name in METRICS if name in present] + [name for name in present if name not in METRICS]


def _count(values: Mapping[str, float | None]) -> int | None:
    removed = values.get("removed")
    return None if removed is None else int(removed)


def _nested(value: Any) -> bool:
    return isinstance(value, Mapping) or (
        isinstance(value, list) and bool(value) and all(isinstance(item, Mapping) for item in value)
    )


def _nested_table(value: Mapping[str, Any] | list[Mapping[str, Any]]) -> Markup:
    if isinstance(value, list):
        rows = {str(position): row for position, row in enumerate(value)}
    elif value and all(isinstance(row, Mapping) for row in value.values()):
        rows = dict(value)
    else:
        shown = table(["Key", "Value"], list(value.items())[:ROWS])
        return _cut(shown, len(value))
    columns = list(dict.fromkeys(key for row in rows.values() for key in row))
    body = [[name, *(row.get(column) for column in columns)] for name, row in list(rows.items())[:ROWS]]
    return _cut(table(["Name", *columns], body), len(rows))


def _cut(shown: Markup, total: int) -> Markup:
    return Markup(f"{shown}\n\nThe first {ROWS} of {total}.") if total > ROWS else shown


def sentence(name: str, before: float | None, after: float | None) -> str:
    """Return how a metric changed, in words; empty if it was not measured."""
    if after is None:
        return ""
    if before is None:
        return f"{name}: {number(after)}."
    if number(before) == number(after):
        return f"{name} stayed at {number(after)}."
    return f"{name} went from {number(before)} to {number(after)} ({difference(after, before)})."
