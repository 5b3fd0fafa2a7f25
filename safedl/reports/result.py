"""The document `result.json` of a run: what the report, the store and other programs read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from safedl import catalog
from safedl.reports.files import jsonable
from safedl.reports.outcome import Example, Outcome, Pictures

if TYPE_CHECKING:
    from numpy.typing import NDArray

Document = dict[str, Any]

EXAMPLES = "examples"
HISTOGRAMS = "histograms"
"""Folders of a run's pictures."""
ENLARGED = 10
"""How many times larger than it is a perturbation is shown."""
RANKED = 100
"""How many samples an influence ranking names."""


def build(outcome: Outcome, pictures: Pictures) -> Document:
    """Return the document of a run, as plain JSON values.

    It has the keys that published results of this kind have, all of the method's `details` as keys of their own,
    and what all runs share. A detail never replaces what all runs share; a parameter never replaces a detail.
    """
    own = own_params(outcome.params, outcome.kind)
    derived = {**_performance(outcome), **_removal(outcome), **_pictures(outcome, pictures)}
    expected = _attack_keys(outcome, own) if outcome.kind == "attack" else _defense_keys(outcome, own)
    specific = {**expected, **outcome.details}
    specific |= {key: value for key, value in derived.items() if value is not None or key not in specific}
    if outcome.kind == "attack":
        specific["target_class_name"] = _class_name(outcome.classes, specific.get("target_class"))
    shared = {
        "uid": outcome.uid,
        "kind": outcome.kind,
        "category": outcome.category,
        "attack": outcome.attack,
        "defense": outcome.defense,
        "dataset": outcome.dataset,
        "model": outcome.model,
        "seed": outcome.seed,
        "layer": outcome.layer,
        "class_names": outcome.classes,
        **_declared(outcome),
        "params": own,
        "configuration": outcome.params,
        "metrics": outcome.metrics,
        "before": outcome.before,
        "baseline": outcome.baseline,
        "bounds": {},  # they run later: what is published has them
        "details": outcome.details,
        "notes": outcome.notes,
        "timing": outcome.timing,
    }
    document: Document = jsonable({**specific, **shared})
    return document


def own_params(params: Mapping[str, Any], kind: str) -> dict[str, Any]:
    """Return a stage's own parameters out of its whole chain, without their prefix; a baseline's are the training's."""
    prefix = ("training" if kind == "baseline" else kind) + "."
    return {key.removeprefix(prefix): value for key, value in params.items() if key.startswith(prefix)}


def example_key(document: Mapping[str, Any]) -> str:
    """Return the key under which a document lists its example pictures."""
    if document["category"] == "evasion":
        return "example_adversarial_samples"
    if document["kind"] != "attack":
        return "example_removed"
    return "example_flips" if document["attack"] == "label_flipping" else "example_poisoned_samples"


def with_folders(document: Mapping[str, Any], examples: str, histograms: str) -> Document:
    """Return the document with its pictures' paths in other folders."""
    moved = dict(document)
    key = example_key(document)
    if key in moved:
        moved[key] = [{**entry, "path": _moved(entry["path"], examples)} for entry in moved[key]]
    if "histograms" in moved:
        moved["histograms"] = [{**entry, "path": _moved(entry["path"], histograms)} for entry in moved["histograms"]]
    if moved.get("histogram_path"):
        moved["histogram_path"] = histograms
    return moved


def per_class(metrics: Mapping[str, float], name: str, classes: tuple[str, ...]) -> dict[str, float]:
    """Return the values of `<name>.<class>` by class, without those that are not defined."""
    return {c: metrics[f"{name}.{c}"] for c in classes if f"{name}.{c}" in metrics}


def _performance(outcome: Outcome) -> dict[str, Any]:
    """Return accuracy and success rates under the names that results of this kind are published with."""
    metrics, classes = outcome.metrics, outcome.classes
    accuracy, by_class = metrics.get("clean_accuracy"), per_class(metrics, "clean_accuracy", classes)
    adversarial = metrics.get("adversarial_accuracy")
    adversarial_by_class = per_class(metrics, "adversarial_accuracy", classes)
    asr, asr_by_class = metrics.get("asr"), per_class(metrics, "asr", classes)
    backdoor, evasion = outcome.category == "backdoor", outcome.category == "evasion"
    if outcome.kind == "scan":
        return {"accuracy_without_suspects": accuracy, "per_class_accuracy": by_class}
    if outcome.kind == "baseline":
        return {"overall_accuracy": accuracy, "per_class_accuracy": by_class}
    if outcome.kind != "attack":
        result: dict[str, Any] = {"accuracy_clean": accuracy, "per_class_accuracy_clean": by_class}
        if backdoor:
            result |= {"asr_after_defense": asr, "per_original_class_asr": asr_by_class}
        if evasion:
            result |= {"accuracy_adversarial": adversarial, "per_class_accuracy_adversarial": adversarial_by_class}
        return result
    if not backdoor and not evasion:
        return {"accuracy_after_attack": accuracy, "per_class_accuracy": by_class}
    result = {"accuracy_clean_testset": accuracy, "per_class_clean": by_class}
    if evasion:
        return result | {
            "accuracy_adversarial_testset": adversarial,
            "per_class_adversarial": adversarial_by_class,
        }
    return result | {"attack_success_rate": asr, "per_class_attack_success_rate": asr_by_class}


def _removal(outcome: Outcome) -> dict[str, Any]:
    """Return how many samples were poisoned, which were removed, and which test images withstood an attack."""
    result: dict[str, Any] = {}
    if outcome.poisoned is not None:
        result |= {
            "num_poisoned_samples": int(outcome.poisoned.sum()),
            "num_total_samples": len(outcome.poisoned),
        }
    if outcome.flagged is not None:
        result |= {
            "num_removed": int(outcome.flagged.sum()),
            "removed_indices": outcome.flagged.nonzero()[0],
        }
        if outcome.scores is not None and outcome.defense == "influence_functions":
            result["influence_ranking"] = _most_suspicious(outcome.scores)
        if outcome.poisoned is not None:
            result["num_removed_poisoned"] = int((outcome.flagged & outcome.poisoned).sum())
    if outcome.attacked is not None:
        result |= {
            "attacked_indices": outcome.attacked,
            "attacked_labels": outcome.attacked_labels,
            "robust_indices": outcome.robust,
        }
    return result


def _most_suspicious(scores: NDArray[Any]) -> list[dict[str, Any]]:
    """Return position and score of the samples that a detector suspects most, the worst first."""
    order = (-scores).argsort(kind="stable")[:RANKED]
    return [{"index": int(i), "score": float(scores[i])} for i in order]


def _pictures(outcome: Outcome, pictures: Pictures) -> dict[str, Any]:
    result: dict[str, Any] = {}
    if outcome.kind == "attack" or outcome.flagged is not None or outcome.attacked is not None:
        key = example_key({"kind": outcome.kind, "category": outcome.category, "attack": outcome.attack})
        result[key] = [
            _example(example, path, outcome.classes)
            for example, path in zip(outcome.examples, pictures.examples, strict=True)
        ]
    if pictures.histograms:
        result["histogram_path"] = HISTOGRAMS
        result["histograms"] = [{"name": name, "path": path} for name, path in pictures.histograms]
    if pictures.sheet:
        result["contact_sheet"] = pictures.sheet
    if pictures.trigger:
        result["trigger_images"] = pictures.trigger
    return result


def _example(example: Example, path: str, classes: tuple[str, ...]) -> dict[str, Any]:
    entry = {
        "path": path,
        "index": example.index,
        "true_label": example.true_label,
        "true_class": _class_name(classes, example.true_label),
        "given_label": example.given_label,
        "given_class": _class_name(classes, example.given_label),
        "poisoned": example.poisoned,
        "score": example.score,
    }
    if example.predicted_label is not None:
        entry["predicted_label"] = example.predicted_label
        entry["predicted_class"] = _class_name(classes, example.predicted_label)
    return entry


def _attack_keys(outcome: Outcome, own: Mapping[str, Any]) -> dict[str, Any]:
    """Return an attack's parameters as keys, and what a published result has even where the attack does not tell."""
    keys: dict[str, Any] = {"attack_type": outcome.attack, "target_class": None, **own}
    if outcome.attack == "label_flipping":
        flipped = None if outcome.poisoned is None else int(outcome.poisoned.sum())
        keys |= {"flipping_strategy": own.get("strategy"), "num_flipped": flipped, "flipping_map": None}
    if outcome.category == "backdoor":
        counts = ("attack_success_numerator", "attack_success_denominator")
        keys |= dict.fromkeys((*counts, *(f"per_class_{name}" for name in counts)))
    return keys


def _defense_keys(outcome: Outcome, own: Mapping[str, Any]) -> dict[str, Any]:
    """Return the keys of a published defense's result, from its parameters as far as these say it, else None."""
    match outcome.defense:
        case "data_cleaning":
            return {"cleaning_params": dict(own)}
        case "per_class_monitoring":
            return dict.fromkeys(("accuracy_std", "threshold", "flagged_classes"))
        case "robust_loss":
            return {"type": own.get("type")}
        case "dp_training":
            return {
                "epsilon_target": own.get("epsilon"),
                "delta_target": own.get("delta"),
                "clip_norm": own.get("clip_norm"),
                "epsilon_spent": None,
            }
        case "provenance_tracking":
            return {"granularity": own.get("granularity")}
        case "influence_functions":
            return {"method": own.get("method"), "sample_size": own.get("sample_size")}
        case "spectral_signatures":
            return {"histogram_path": HISTOGRAMS}
        case "pruning":
            return {"pruned_params_fraction": None}
        case "fine_pruning":
            return {"pruning_ratio": own.get("pruning_ratio")} | dict.fromkeys(
                ("pruned_layer", "num_neurons_pruned", "pruned_neuron_indices")
            )
        case "randomized_smoothing":
            return {"sigma": own.get("sigma"), "num_samples": own.get("num_samples")}
        case "model_inspection":
            return {"histogram_path": HISTOGRAMS, "layers_inspected": own.get("layers")} | dict.fromkeys(
                ("suspicious_layers", "layer_stats")
            )
    return {}


def _declared(outcome: Outcome) -> dict[str, Any]:
    """Return what the catalog says that a defense was allowed, and how its training differs from `configuration`."""
    spec = catalog.DEFENSES.get(outcome.defense or "")
    if spec is None:
        return {}
    declared: dict[str, Any] = {"trusted_for": spec.trusted or None, "recipe": spec.recipe or None}
    if outcome.category != "evasion":  # there the model to defend is the clean one
        declared["uses_clean_model"] = bool(spec.clean_model)
    return declared


def _class_name(classes: tuple[str, ...], label: Any) -> str | None:
    return classes[label] if isinstance(label, int) and 0 <= label < len(classes) else None


def _moved(path: str, folder: str) -> str:
    return f"{folder}/{path.rpartition('/')[2]}"
