"""What is measured on a model: accuracy, attack success, detection. Flat dictionaries of finite numbers.

What is undefined (a class without test images, precision where nothing was flagged) is left out, never NaN.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from safedl.attacks.contract import Poisoning
from safedl.data.imageset import ImageSet
from safedl.evaluation.statistics import wilson
from safedl.loading import LOADING
from safedl.models.classifier import Classifier
from safedl.training.workbench import Workbench

Metrics = dict[str, float]


def evaluate(
    model: Classifier, test: ImageSet, poisoning: Poisoning | None, bench: Workbench, classes: Sequence[str]
) -> Metrics:
    """Return all metrics that apply to a baseline (`poisoning` None), attacked or defended model on the test set."""
    logits = bench.predict(model, test.images)
    metrics = clean_metrics(logits, test.labels, classes)
    if poisoning is None:
        return metrics
    if poisoning.trigger is not None and poisoning.target_class is not None:
        trigger = poisoning.trigger
        metrics |= backdoor_metrics(
            lambda images: bench.predict(model, trigger.apply(images)), test, poisoning.target_class, classes
        )
    confusion = {int(s): int(t) for s, t in poisoning.details.get("expected_confusion", {}).items()}
    return metrics | flip_metrics(logits, test.labels, confusion)


def clean_metrics(logits: Tensor, labels: Tensor, classes: Sequence[str]) -> Metrics:
    """Return `clean_accuracy` and `clean_accuracy.<class>` for logits [N, K] and labels int64 [N]."""
    return _shares("clean_accuracy", logits.argmax(1) == labels, labels, classes)


def backdoor_metrics(
    answer: Callable[[Tensor], Tensor], test: ImageSet, target_class: int, classes: Sequence[str]
) -> Metrics:
    """Return `asr`, `asr.<class>` and `robust_accuracy` on the test images whose true class is not the target.

    `answer` takes these, uint8 [N, C, H, W], and gives logits [N, K] of them with the trigger. ASR: share predicted as
    the target, overall and per true class; robust accuracy: share still predicted as their true class.
    """
    others = test.select(test.labels != target_class)
    if not len(others):
        return {}
    predicted = answer(others.images).argmax(1)
    metrics = _shares("asr", predicted == target_class, others.labels, classes)
    return {**metrics, "robust_accuracy": _mean(predicted == others.labels)}


def flip_metrics(logits: Tensor, labels: Tensor, confusion: Mapping[int, int]) -> Metrics:
    """Return `source_target_rate` for the confusion {true class: predicted class} that an attack aims at.

    It is the share of the test images of those classes that are predicted so. Labels flipped from source to target
    aim at the same confusion. `logits`: [N, K]; `labels`: int64 [N], the true classes.
    """
    wanted = torch.full((logits.shape[1],), -1, dtype=torch.int64)
    for source, target in confusion.items():
        wanted[source] = target
    concerned = wanted[labels] >= 0
    if not concerned.any():
        return {}
    return {"source_target_rate": _mean((logits.argmax(1) == wanted[labels])[concerned])}


def detection_metrics(scores: Tensor, flagged: Tensor, mask: Tensor) -> Metrics:
    """Return `tpr`, `fpr`, `precision`, `auroc` and `removed` of a detector.

    `scores`: float [N], higher is more suspicious (infinite values allowed); `flagged`, `mask`: bool [N], what is
    flagged and what is poisoned. Without poison only `fpr` and `removed` are defined.
    """
    metrics = {"removed": float(flagged.sum())}
    if (~mask).any():
        metrics["fpr"] = _mean(flagged[~mask])
    if mask.any():
        metrics["tpr"] = _mean(flagged[mask])
        if flagged.any():
            metrics["precision"] = _mean(mask[flagged])
        if (~mask).any() and not scores.isnan().any():
            finite = torch.nan_to_num(scores.double())
            with LOADING:
                from sklearn.metrics import roc_auc_score  # loads scipy's statistics, which most runs do not need

            metrics["auroc"] = float(roc_auc_score(mask.numpy(), finite.numpy()))
    return metrics


def adversarial_metrics(robust: Tensor, labels: Tensor, classes: Sequence[str]) -> Metrics:
    """Return `adversarial_accuracy` and `adversarial_accuracy.<class>` of M attacked images.

    `robust`: bool [M], classified right before and after the attack; `labels`: int64 [M].
    """
    return _shares("adversarial_accuracy", robust, labels, classes)


def attack_facts(right: Tensor, robust: Tensor, change: Tensor, queries: Tensor) -> dict[str, float]:
    """Return what an attack at test time spent on M images, and how sure its result is.

    `right`, `robust`: bool [M], classified right before, and before and after; `change`: float [M, C, H, W],
    adversarial minus original; `queries`: int64 [M]. `adversarial_low` and `adversarial_high`: the 95 % interval
    (Wilson) that so many images imply; `sampled_accuracy`: before the attack, on the same images; `success_rate` and
    `queries_mean`: over the images that were right before; `perturbation_*`: mean norms over those that were fooled.
    """
    fooled = right & ~robust
    low, high = wilson(int(robust.sum()), len(robust))
    facts = {
        "test_images": len(robust), "adversarial_low": low, "adversarial_high": high, "sampled_accuracy": _mean(right),
    }  # fmt: skip
    if right.any():
        facts |= {"success_rate": _mean(fooled[right]), "queries_mean": float(queries[right].float().mean())}
    if fooled.any():
        moved = change[fooled].flatten(1)
        facts["perturbation_linf"] = float(moved.abs().amax(1).mean())
        facts["perturbation_l2"] = float(moved.norm(dim=1).mean())
    return facts


def asr_counts(
    metrics: Mapping[str, float], labels: Tensor, target_class: int, classes: Sequence[str]
) -> dict[str, Any]:
    """Return the counts behind `backdoor_metrics`, exactly, under the names of the published result files.

    `labels`: int64 [N] of the test set.
    """
    sizes = torch.bincount(labels, minlength=len(classes)).tolist()
    totals = {name: n for c, (name, n) in enumerate(zip(classes, sizes, strict=True)) if n and c != target_class}
    hits = {name: round(metrics[f"asr.{name}"] * n) for name, n in totals.items()}
    return {
        "attack_success_rate": metrics.get("asr"),
        "attack_success_numerator": sum(hits.values()),
        "attack_success_denominator": sum(totals.values()),
        "per_class_attack_success_rate": {name: metrics[f"asr.{name}"] for name in totals},
        "per_class_attack_success_numerator": hits,
        "per_class_attack_success_denominator": totals,
    }


def _shares(name: str, hits: Tensor, labels: Tensor, classes: Sequence[str]) -> Metrics:
    """Return the share of `hits` (bool [N]) overall and within each class that has samples."""
    if not len(labels):
        return {}
    sizes = torch.bincount(labels, minlength=len(classes))
    counts = torch.bincount(labels[hits], minlength=len(classes))
    per_class = {
        f"{name}.{label}": hit / size
        for label, hit, size in zip(classes, counts.tolist(), sizes.tolist(), strict=True)
        if size
    }
    return {name: _mean(hits), **per_class}


def _mean(values: Tensor) -> float:
    return int(values.sum()) / len(values)
