"""Feature space as the trusted holdout sees it, and what in a class is foreign to it.

Features of one class differ far more along natural directions than along the one that a trigger adds. Whitening by the
trusted images' covariance within classes evens the natural directions out, so that the foreign one stands out
(Hayase et al.: SPECTRE, ICML 2021).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import torch
from scipy.stats import binom
from sklearn.covariance import LedoitWolf
from torch import Tensor

from safedl.data.imageset import ImageSet
from safedl.defenses.contract import Detection, Scenario

FOLDS = 5
FEWEST = 2 * FOLDS
"""Trusted images of each class: two for every fold."""
SIGNIFICANCE = 0.05
"""How improbable it must be that so few trusted images fall into a group by chance, for one class."""
TRUSTED_RATIO = 0.2
"""A foreign group holds less than this multiple of the trusted share that its size would give it."""
CERTAIN, CERTAIN_RATIO = 0.01, 1 / 3
"""Of images that a whitening has not seen, where chance is as improbable as this, more strays are forgiven: two of 20
are many."""

SEPARATION = 2.0
"""Two groups of scores lie apart if Ashman's D exceeds this (Ashman, Bird, Zepf 1994)."""

Scorer = Callable[[Tensor, int], Tensor]
"""Takes whitened features [n, D] of one class and its label; returns scores [n], higher is more foreign."""


@dataclass(frozen=True)
class Whitened:
    """Features whitened by trusted images: those of the training set [N, D] and of the trusted images [M, D]."""

    training: Tensor
    labels: Tensor
    trusted: Tensor
    known: Tensor


@dataclass(frozen=True)
class Whitening:
    """An affine map: the class's mean (`means` [K, D]) is subtracted, `matrix` [D, D] scales the spread to 1."""

    means: Tensor
    matrix: Tensor

    @classmethod
    def fit(cls, features: Tensor, labels: Tensor, num_classes: int) -> Whitening:
        """Estimate class means and the common within-class covariance, shrunk after Ledoit and Wolf (2004).

        `features`: float [M, D] with at least one sample of each class; `labels`: int64 [M].
        """
        counts = torch.bincount(labels, minlength=num_classes).unsqueeze(1)
        means = torch.zeros(num_classes, features.shape[1]).index_add_(0, labels, features) / counts
        covariance = LedoitWolf(assume_centered=True).fit((features - means[labels]).numpy()).covariance_
        values, vectors = torch.linalg.eigh(torch.from_numpy(covariance).double())
        floor = values[-1].clamp_min(1e-12) * 1e-6
        matrix = vectors * values.clamp_min(float(floor)).rsqrt() @ vectors.T
        return cls(means, matrix.float())

    def apply(self, features: Tensor, labels: Tensor) -> Tensor:
        """Return the features [n, D], each whitened about the trusted mean of its class (int64 [n])."""
        return (features - self.means[labels]) @ self.matrix


def rarest(trusted: ImageSet, num_classes: int) -> tuple[int, int]:
    """Return the class with the fewest trusted images, and how many it has."""
    counts = torch.bincount(trusted.labels, minlength=num_classes)
    label = int(counts.argmin())
    return label, int(counts[label])


def usable(scenario: Scenario) -> bool:
    """Return whether the holdout has at least `FEWEST` images of every class; if not, the log says so."""
    label, count = rarest(scenario.trusted, scenario.num_classes)
    if count < FEWEST:
        scenario.bench.progress.log(
            f"judged without trusted images: class '{scenario.classes[label]}' has {count}, {FEWEST} of each are needed"
        )
    return count >= FEWEST


def whitened(scenario: Scenario) -> Whitened:
    """Return the features of training set and trusted holdout, whitened by the latter."""
    labels, known = scenario.data.labels, scenario.trusted.labels
    trusted = scenario.trusted_features()
    whitening = Whitening.fit(trusted, known, scenario.num_classes)
    return Whitened(whitening.apply(scenario.features(), labels), labels, whitening.apply(trusted, known), known)


def scores_by_class(scenario: Scenario, fit: Callable[[Whitened], Scorer]) -> tuple[Tensor, Tensor]:
    """Score every sample within its given class; return the scores of training set [N] and trusted holdout [M].

    Trusted images are scored out of sample, by five folds, so that the scores of both sets can be compared.
    """
    features, trusted = scenario.features(), scenario.trusted_features()
    labels, known = scenario.data.labels, scenario.trusted.labels
    trusted_scores = torch.zeros(len(known))
    folds = folds_of(scenario)
    for fold in range(FOLDS):
        scenario.bench.progress.step("score", fold, FOLDS + 1)
        held = folds == fold
        whitening = Whitening.fit(trusted[~held], known[~held], scenario.num_classes)
        space = Whitened(
            whitening.apply(features, labels), labels, whitening.apply(trusted[~held], known[~held]), known[~held]
        )
        trusted_scores[held] = _apply(fit(space), whitening.apply(trusted[held], known[held]), known[held])
    scenario.bench.progress.step("score", FOLDS, FOLDS + 1)
    space = whitened(scenario)
    return _apply(fit(space), space.training, labels), trusted_scores


def _apply(scorer: Scorer, features: Tensor, labels: Tensor) -> Tensor:
    scores = torch.zeros(len(labels))
    for label in labels.unique().tolist():
        members = labels == label
        scores[members] = scorer(features[members], label).float()
    return scores


def folds_of(scenario: Scenario) -> Tensor:
    """Return the fold 0..4 of each trusted image [M], evenly within classes."""
    known = scenario.trusted.labels
    folds = torch.zeros(len(known), dtype=torch.int64)
    rng = scenario.rng("trusted folds")
    for label in range(scenario.num_classes):
        members = (known == label).nonzero().flatten()
        folds[members[torch.randperm(len(members), generator=rng)]] = torch.arange(len(members)) % FOLDS
    return folds


@dataclass(frozen=True)
class Verdict:
    """What was decided about the samples of a class that score above `cut`; both shares are in [0, 1]."""

    suspicious: bool
    share: float
    trusted_share: float
    cut: float


def foreign(share: float, trusted_inside: int, trusted_total: int, certain_ratio: float = TRUSTED_RATIO) -> bool:
    """Return whether a group with this share of its class is one that trusted images do not belong to.

    Under the null hypothesis each trusted image falls into the group with probability `share`. Where that is all but
    ruled out, `certain_ratio` takes the place of `TRUSTED_RATIO`.
    """
    chance = binom.cdf(trusted_inside, trusted_total, share)
    ratio = certain_ratio if chance < CERTAIN else TRUSTED_RATIO
    return bool(chance < SIGNIFICANCE and trusted_inside < ratio * share * trusted_total)


def judge_scores(scores: Tensor, trusted: Tensor) -> Verdict:
    """Cut the scores of one class [n] in two and decide by its trusted scores [m] whether the upper group is poison."""
    cut = minimum_error_cut(scores)
    upper = scores > cut
    share, inside = float(upper.float().mean()), int((trusted > cut).sum())
    suspicious = _separation(scores, upper) > SEPARATION and foreign(share, inside, len(trusted), CERTAIN_RATIO)
    return Verdict(suspicious, share, inside / len(trusted), cut)


def _separation(scores: Tensor, upper: Tensor) -> float:
    """Return Ashman's D between the logarithms of two groups of scores: their distance in units of their spread."""
    values = scores.double().clamp_min(1e-12).log()
    if upper.sum() < 2 or (~upper).sum() < 2:
        return 0.0
    above, below = values[upper], values[~upper]
    return float((above.mean() - below.mean()) / ((above.var() + below.var()) / 2 + 1e-12).sqrt())


def decide(scenario: Scenario, scores: Tensor, trusted_scores: Tensor, quantile: float = 0.0) -> Detection:
    """Judge every class by its scores, and flag the upper group of those that are suspicious.

    `scores` [N] are the training samples', `trusted_scores` [M] the trusted ones'; higher is more suspicious.
    What is flagged also lies above the given quantile of the trusted scores of its class.
    """
    flagged = torch.zeros(len(scores), dtype=torch.bool)
    decisions: dict[str, Any] = {}
    for label, name in enumerate(scenario.classes):
        members = scenario.data.labels == label
        if not members.any():
            continue
        trusted = trusted_scores[scenario.trusted.labels == label]
        verdict = judge_scores(scores[members], trusted)
        if verdict.suspicious:
            flagged |= members & (scores > max(verdict.cut, float(trusted.quantile(quantile))))
        decisions[name] = asdict(verdict)
    suspicious = [name for name, decision in decisions.items() if decision["suspicious"]]
    details = {"trusted_used": len(scenario.trusted), "suspicious_classes": suspicious, "classes": decisions}
    return Detection(scores, flagged, details, trusted_scores)


def minimum_error_cut(scores: Tensor) -> float:
    """Return where positive scores [n] fall apart into two groups.

    Minimum error thresholding (Kittler and Illingworth, Pattern Recognition 1986) on the logarithm of the scores:
    of all cuts the one at which two Gaussians of their own size and variance explain the values best.
    """
    values = scores.double().clamp_min(1e-12).log().sort().values
    count = len(values)
    if count < 4:
        return float(values[-1].exp())
    below = torch.arange(1, count + 1, dtype=torch.float64)
    first, second = values.cumsum(0), values.square().cumsum(0)
    floor = 1e-3 * float(values.var()) + 1e-12

    def cost(size: Tensor, total: Tensor, squares: Tensor) -> Tensor:
        variance = (squares / size - (total / size).square()).clamp_min(floor)
        return size * (variance.log() / 2 - (size / count).log())

    inner = slice(1, count - 2)  # at least two on either side
    upper = cost(count - below[inner], first[-1] - first[inner], second[-1] - second[inner])
    best = 1 + int((cost(below[inner], first[inner], second[inner]) + upper).argmin())
    return float(((values[best] + values[best + 1]) / 2).exp())
