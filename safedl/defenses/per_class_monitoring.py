"""Name the classes that the model has got worse at, or predicts too often.

The reference is a linear classifier on the model's own features of trusted images, each judged by a fit without it:
it shares what the model sees and has no part in the labels that may be wrong. Both judge the same images, so their
proportions are compared by McNemar's paired test (1947), with Bonferroni's correction.
"""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import Any

import torch
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from safedl.catalog.defenses.poisoning import PerClassMonitoringParams
from safedl.defenses import trusted_space
from safedl.defenses.contract import Findings, Scenario
from safedl.errors import UsageError
from safedl.training.predict import class_accuracy

FOLDS = 5


def diagnose(scenario: Scenario, params: PerClassMonitoringParams) -> Findings:
    """Compare the classes on the trusted holdout. Raises `UsageError` if there is too little of it."""
    labels = scenario.trusted.labels
    needed = FOLDS if params.variant == "paper" else 1
    rarest, smallest = trusted_space.rarest(scenario.trusted, scenario.num_classes)
    if smallest < needed:
        raise UsageError(
            f"per_class_monitoring: needs {needed} trusted images of each class, and '{scenario.classes[rarest]}' has "
            f"{smallest}; raise dataset.trusted_fraction, which holds out at most a fifth of a class, or add images"
        )
    logits = scenario.bench.predict(scenario.model, scenario.trusted.images)
    accuracy = class_accuracy(logits, labels, scenario.num_classes)
    mean, std = float(accuracy.mean()), float(accuracy.std(correction=0))
    details: dict[str, Any] = {
        "trusted_used": len(labels),
        "trusted_accuracy_per_class": _by_class(scenario, accuracy),
        "accuracy_mean": mean,
        "accuracy_std": std,
    }
    if params.variant == "literal":
        threshold = mean - params.std_threshold * std
        flags = accuracy < threshold
    else:
        predicted = logits.argmax(1)
        reference = _reference(scenario)
        loss, excess = paired_statistics(predicted, reference, labels, scenario.num_classes)
        threshold = corrected(params.std_threshold, 2 * scenario.num_classes)
        flags = (loss > threshold) | (excess > threshold)
        details |= {
            "reference_accuracy": float((reference == labels).float().mean()),
            "accuracy_loss_z": _by_class(scenario, loss),
            "excess_predictions_z": _by_class(scenario, excess),
            **_largest_confusion(scenario, predicted, reference, labels),
        }
    flagged = [scenario.classes[c] for c in flags.nonzero().flatten().tolist()]
    return Findings(bool(flagged), {**details, "threshold": threshold, "flagged_classes": flagged})


def paired_statistics(predicted: Tensor, reference: Tensor, labels: Tensor, classes: int) -> tuple[Tensor, Tensor]:
    """Return two z-values per class, float [K]: accuracy lost against the reference, and predictions in excess.

    An excess has to show against the reference and against the labels, so the smaller of both counts.
    """
    right, expected = predicted == labels, reference == labels
    lost, gained = _count(labels[expected & ~right], classes), _count(labels[right & ~expected], classes)
    differ = predicted != reference
    more, fewer = _count(predicted[differ], classes), _count(reference[differ], classes)
    added, missed = _count(predicted[~right], classes), _count(labels[~right], classes)
    return mcnemar(lost, gained), torch.minimum(mcnemar(more, fewer), mcnemar(added, missed))


def mcnemar(ones: Tensor, others: Tensor) -> Tensor:
    """Return the z-values [K] of McNemar's test, continuity corrected: changes one way against those the other [K]."""
    gap = ones - others
    return gap.sign() * (gap.abs() - 1).clamp_min(0) / (ones + others).clamp_min(1).sqrt()


def corrected(z: float, tests: int) -> float:
    """Return the z-value that keeps the error of one test at `z` over several tests (Bonferroni)."""
    error = math.erfc(z / math.sqrt(2)) / 2 / tests  # NormalDist.cdf is 0 from 8.3 on before Python 3.12
    return -NormalDist().inv_cdf(error) if error else z  # so far out the correction makes no difference


def _reference(scenario: Scenario) -> Tensor:
    """Return predictions int64 [M] for the trusted images, each by a classifier fitted to the others."""
    features, labels = scenario.trusted_features().numpy(), scenario.trusted.labels.numpy()
    probe = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=1000))
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=scenario.seed)
    scenario.bench.progress.step("reference", 0, 1)
    return torch.from_numpy(cross_val_predict(probe, features, labels, cv=folds))


def _largest_confusion(scenario: Scenario, predicted: Tensor, reference: Tensor, labels: Tensor) -> dict[str, Any]:
    """Return the pair of classes whose confusion has grown most against the reference, as a share of the source."""
    size = scenario.num_classes
    wrong = [
        torch.bincount(labels * size + guess, minlength=size * size).view(size, size)
        for guess in (predicted, reference)
    ]
    growth = (wrong[0] - wrong[1]) / _count(labels, size).clamp_min(1).unsqueeze(1)
    source, target = divmod(int(growth.fill_diagonal_(-1).argmax()), size)
    return {
        "confused_source": scenario.classes[source],
        "confused_target": scenario.classes[target],
        "confusion_growth": float(growth[source, target]),
    }


def _count(labels: Tensor, classes: int) -> Tensor:
    return torch.bincount(labels, minlength=classes).float()


def _by_class(scenario: Scenario, values: Tensor) -> dict[str, float]:
    return dict(zip(scenario.classes, values.tolist(), strict=True))
