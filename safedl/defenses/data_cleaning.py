"""Remove samples whose label contradicts models that have not seen them.

Confident learning (Northcutt, Jiang, Chuang, JAIR 2021) with two changes: the counts of wrong labels come from the
trusted holdout's confusion matrix, and a sample is judged by its odds of being mislabelled, given those counts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from scipy.optimize import nnls
from torch import Tensor

from safedl.catalog.defenses.poisoning import DataCleaningParams
from safedl.defenses.contract import Detection, Scenario
from safedl.defenses.trusted import judged, require_trusted
from safedl.training.predict import sample_losses

TEMPERATURES = torch.logspace(-1, 1.5, 60)
CAP = 1.2
"""Outlier detection removes at most this multiple of the estimated number of wrong labels in a class."""
LEAST_COUNT = 1e-3
"""Stands for an estimated count of zero, so that odds keep their order."""
ROUNDS = 30
"""Of expectation maximisation."""


@dataclass(frozen=True)
class Evidence:
    """What models say about samples that they were not trained on.

    `logits`: float [N, K] of the training samples; `trusted`: float [F, M, K] of the trusted ones, by each model.
    """

    logits: Tensor
    trusted: Tensor


def detect(scenario: Scenario, params: DataCleaningParams) -> Detection:
    """Score each sample by how badly its label fits. Raises `UsageError` if trusted data is needed and absent."""
    threshold = params.threshold
    if threshold is None:
        threshold = 0.9 if params.method == "loss_filtering" else 3.0
    if params.variant == "literal":
        return _literal(scenario, params.method, threshold)
    folds = min(params.folds, len(scenario.data))
    if not params.trusted:
        return _without_trusted(scenario, folds, threshold)
    require_trusted(scenario, "data_cleaning", "set trusted: false")
    known = judged(scenario)
    labels, trusted = scenario.data.labels, scenario.trusted.labels
    first = _cross_fit(scenario, torch.ones(len(labels), dtype=torch.bool), folds, "first")
    wrong = _wrong(label_counts(first, labels, trusted))
    kept = ~highest_in_class(sample_losses(first.logits, labels), labels, wrong) | ~known
    second = _cross_fit(scenario, kept, folds, "second")
    counts = label_counts(second, labels, trusted)
    cooled = _calibrate(second, trusted)
    details: dict[str, Any] = {
        "trusted_used": len(trusted),
        "threshold": threshold,
        "estimated_noise": 1 - float(counts.trace() / counts.sum()),
        "helper_models": 2 * folds,
    }
    if params.method == "loss_filtering":
        scores = log_odds(cooled.logits, labels, counts)
        # By every model: one that failed to learn a class must not make that class look wrong.
        reference = log_odds(cooled.trusted.flatten(0, 1), trusted.repeat(len(cooled.trusted)), counts)
        return Detection(scores, (scores > np.log(threshold)) & known, details, reference)
    scores = trusted_z(cooled, labels, trusted).where(known, 0)
    likely = highest_in_class(scores, labels, CAP * _wrong(counts))
    return Detection(scores, (scores > threshold) & likely, details)


def _without_trusted(scenario: Scenario, folds: int, threshold: float) -> Detection:
    """Judge labels by a mixture: within each class a share of them is wrong and says nothing about the image."""
    everything = torch.ones(len(scenario.data), dtype=torch.bool)
    logits = _cross_fit(scenario, everything, folds, "first").logits
    odds, shares = mixture_odds(logits, scenario.data.labels)
    counts = torch.bincount(scenario.data.labels, minlength=len(shares)).double()
    noise = float((shares * counts).sum() / counts.sum())
    details = {"trusted_used": 0, "threshold": threshold, "estimated_noise": noise, "helper_models": folds}
    return Detection(odds, odds > np.log(threshold), details)


def mixture_odds(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return the log odds float [N] that a label is wrong, and the share of wrong labels of each class, float64 [K].

    A label is right with P(class | image), from out-of-sample logits [N, K] at some temperature, or wrong: any class
    but the likely one. Temperature and shares are those of greatest likelihood, by expectation maximisation.
    """
    classes = logits.shape[1]
    best: tuple[float, Tensor, Tensor] | None = None
    for temperature in TEMPERATURES:
        right = (logits.double() / temperature).softmax(1).gather(1, labels.unsqueeze(1)).squeeze(1)
        wrong = ((1 - right) / (classes - 1)).clamp_min(1e-12)
        right = right.clamp_min(1e-12)
        shares = torch.full((classes,), 0.1, dtype=torch.float64)
        for _ in range(ROUNDS):
            share = shares[labels]
            posterior = share * wrong / (share * wrong + (1 - share) * right)
            size = torch.bincount(labels, minlength=classes).clamp_min(1)
            shares = torch.zeros_like(shares).index_add_(0, labels, posterior) / size
        share = shares[labels].clamp(1e-9, 1 - 1e-9)
        likelihood = float((share * wrong + (1 - share) * right).log().sum())
        if best is None or likelihood > best[0]:
            best = likelihood, (share * wrong / ((1 - share) * right)).log().float(), shares
    assert best is not None
    return best[1], best[2]


def label_counts(evidence: Evidence, labels: Tensor, trusted: Tensor) -> Tensor:
    """Return how many samples of each true class carry each label: float [K true, K given], estimated.

    Predictions of one true class spread the same way whatever label was given, and the trusted samples show how.
    So predictions x labels = P(prediction | true class) x counts, solved by non-negative least squares.
    """
    classes = evidence.logits.shape[1]
    seen = _table(evidence.logits.argmax(1), labels, classes)
    spread = _table(evidence.trusted.argmax(2).flatten(), trusted.repeat(len(evidence.trusted)), classes)
    # A class without trusted samples is taken to be predicted rightly.
    spread += torch.diag((spread.sum(0) == 0).double())
    spread /= spread.sum(0)
    columns = [nnls(spread.numpy(), seen[:, given].numpy())[0] for given in range(classes)]
    return torch.from_numpy(np.stack(columns, axis=1))


def highest_in_class(scores: Tensor, labels: Tensor, sizes: Tensor) -> Tensor:
    """Return a mask bool [N] that takes the `sizes[c]` highest scores among the samples of each label c."""
    order = torch.argsort(scores, descending=True)
    order = order[torch.argsort(labels[order], stable=True)]
    members = torch.bincount(labels, minlength=len(sizes))
    rank = torch.arange(len(labels)) - (members.cumsum(0) - members)[labels[order]]
    taken = torch.zeros(len(labels), dtype=torch.bool)
    taken[order] = rank < sizes.round()[labels[order]]
    return taken


def log_odds(logits: Tensor, labels: Tensor, counts: Tensor) -> Tensor:
    """Return log P(true class is another) - log P(true class is the label), float [N], by Bayes' rule.

    The models give P(class | image), `counts` give P(label | class).
    """
    rates = counts.clamp_min(LEAST_COUNT) / counts.clamp_min(LEAST_COUNT).sum(1, keepdim=True)
    joint = logits.double().log_softmax(1) + rates.log().T[labels]
    right = joint.gather(1, labels.unsqueeze(1)).squeeze(1)
    wrong = joint.scatter(1, labels.unsqueeze(1), -torch.inf).logsumexp(1)
    return (wrong - right).float()


def trusted_z(evidence: Evidence, labels: Tensor, trusted: Tensor) -> Tensor:
    """Return by how many standard deviations a loss exceeds the mean of trusted losses of its class, float [N]."""
    classes = evidence.logits.shape[1]
    truth = trusted.repeat(len(evidence.trusted))
    reference = sample_losses(evidence.trusted.flatten(0, 1), truth)
    size = torch.bincount(truth, minlength=classes).clamp_min(1)
    mean = torch.zeros(classes).index_add_(0, truth, reference) / size
    spread = torch.zeros(classes).index_add_(0, truth, (reference - mean[truth]) ** 2).div(size).sqrt()
    return (sample_losses(evidence.logits, labels) - mean[labels]) / spread.clamp_min(1e-3)[labels]


def _cross_fit(scenario: Scenario, kept: Tensor, folds: int, name: str) -> Evidence:
    """Train one model without each fold, on the kept samples; each sample is judged by the model without it."""
    data, classes = scenario.data, scenario.num_classes
    fold = torch.randperm(len(data), generator=scenario.rng("data_cleaning folds")) % folds
    logits = torch.zeros(len(data), classes)
    trusted = []
    for k in range(folds):
        inside = fold == k
        helper = scenario.fit(data.select(kept & ~inside), phase=f"{name} helper {k + 1} of {folds}")
        logits[inside] = scenario.bench.predict(helper, data.images[inside])
        trusted.append(scenario.bench.predict(helper, scenario.trusted.images))
    return Evidence(logits, torch.stack(trusted))


def _calibrate(evidence: Evidence, trusted: Tensor) -> Evidence:
    """Divide the logits by the temperature under which the trusted samples are most likely."""
    flat, truth = evidence.trusted.flatten(0, 1), trusted.repeat(len(evidence.trusted))
    losses = torch.stack([F.cross_entropy(flat / t, truth) for t in TEMPERATURES])
    best = TEMPERATURES[losses.argmin()]
    return Evidence(evidence.logits / best, evidence.trusted / best)


def _literal(scenario: Scenario, method: str, threshold: float) -> Detection:
    """Keep samples by their loss under a model trained on them: below a scaled mean, or by z-score."""
    helper = scenario.fit(scenario.data, phase="helper")
    losses = sample_losses(scenario.bench.predict(helper, scenario.data.images), scenario.data.labels)
    if method == "loss_filtering":
        cut = threshold * float(losses.mean())
        return Detection(losses, losses > cut, {"threshold": threshold, "loss_cut": cut, "trusted_used": 0})
    scores = (losses - losses.mean()) / losses.std().clamp_min(1e-12)
    return Detection(scores, scores > threshold, {"threshold": threshold, "trusted_used": 0})


def _wrong(counts: Tensor) -> Tensor:
    """Return how many samples of each given label belong elsewhere, float [K]."""
    return counts.sum(0) - counts.diagonal()


def _table(rows: Tensor, columns: Tensor, size: int) -> Tensor:
    """Return counts float64 [size, size] of pairs."""
    return torch.bincount(rows * size + columns, minlength=size * size).view(size, size).double()
