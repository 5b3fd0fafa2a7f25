"""Judge training data by where it came from (Baracaldo et al., AISec 2017).

A source is dropped if a classifier does better on trusted data without it. The classifier here is ridge regression on
the clean model's features: refitting it without a segment needs no training, only one small linear system.
"""

from __future__ import annotations

from statistics import NormalDist

import torch
import torch.nn.functional as F
from torch import Tensor

from safedl.catalog.defenses.poisoning import ProvenanceTrackingParams
from safedl.defenses.contract import Detection, Scenario
from safedl.defenses.trusted import judged, require_trusted
from safedl.errors import UsageError
from safedl.models.classifier import Classifier
from safedl.training.predict import sample_losses

FALSE_ALARM = 0.01
"""Probability that any segment is dropped although segments differ by chance alone."""
NULL_SEGMENTS = 100
"""At least so many random segments show what chance alone does."""
RIDGE = 1e-2
"""Penalty of the probe, as a share of the features' mean square."""
SIGMAS = 2.0


def detect(scenario: Scenario, params: ProvenanceTrackingParams) -> Detection:
    """Score all samples of a segment alike. Raises `UsageError` if sources are asked for and the data names none."""
    data = scenario.data
    granularity = params.granularity or ("source" if data.sources is not None else "sample")
    if scenario.clean_model is None:
        raise ValueError("provenance_tracking needs the clean model")
    model = scenario.clean_model()
    segments = _segments(scenario, granularity, params.batch_size)
    if params.variant == "literal":
        losses = sample_losses(scenario.bench.predict(model, data.images), data.labels)
        means = segment_means(losses, segments)
        cut = float(means.mean() + SIGMAS * means.std(correction=0))
        return _detection(means[segments], cut, granularity, segments, 0)
    require_trusted(scenario, "provenance_tracking", fewest=2)
    used = len(scenario.trusted)
    if granularity == "sample":
        scores, cut = _unusual_losses(scenario, model)
        return _detection(scores.where(judged(scenario), 0), cut, granularity, segments, used)
    harms, cut = _harms(scenario, model, segments)
    return _detection(harms[segments], max(cut, 0.0), granularity, segments, used)


def segment_means(values: Tensor, segments: Tensor) -> Tensor:
    """Return the mean of `values` [N] in each segment; `segments`: int64 [N], 0 to S - 1, none of them empty."""
    size = torch.bincount(segments)
    return torch.zeros(len(size)).index_add_(0, segments, values) / size


class RidgeProbe:
    """Ridge regression of one-hot labels on features; `error` tells what further samples do to it."""

    def __init__(self, features: Tensor, labels: Tensor, num_classes: int) -> None:
        """Begin with the samples `features` [M, D] and `labels` [M]."""
        self.classes = num_classes
        rows = with_constant(features)
        penalty = RIDGE * rows.square().sum() / rows.shape[1]
        self.square = rows.T @ rows + penalty * torch.eye(rows.shape[1]).double()
        self.product = rows.T @ self._targets(labels)

    def weights(self, features: Tensor, labels: Tensor) -> Tensor:
        """Return the weights float64 [D + 1, K] fitted to the first samples and these."""
        rows = with_constant(features)
        fitted: Tensor = torch.linalg.solve(self.square + rows.T @ rows, self.product + rows.T @ self._targets(labels))
        return fitted

    def error(self, weights: Tensor, features: Tensor, labels: Tensor) -> float:
        """Return the mean squared error on other samples."""
        return float((with_constant(features) @ weights - self._targets(labels)).square().mean())

    def _targets(self, labels: Tensor) -> Tensor:
        return F.one_hot(labels, self.classes).double()


def with_constant(features: Tensor) -> Tensor:
    """Return features as float64 [N, D + 1], the last column 1."""
    return F.pad(features.double(), (0, 1), value=1.0)


def _harms(scenario: Scenario, model: Classifier, segments: Tensor) -> tuple[Tensor, float]:
    """Return how much each segment raises the trusted error, float [S], and what chance alone may reach."""
    bench, labels, known = scenario.bench, scenario.data.labels, scenario.trusted.labels
    features, trusted = bench.features(model, scenario.data.images), bench.features(model, scenario.trusted.images)
    half = torch.randperm(len(known), generator=scenario.rng("provenance halves")) % 2 == 0
    probes = [(RidgeProbe(trusted[side], known[side], scenario.num_classes), ~side) for side in (half, ~half)]
    nothing = torch.zeros(0, dtype=torch.int64)

    def error(index: Tensor) -> float:
        return sum(p.error(p.weights(features[index], labels[index]), trusted[j], known[j]) for p, j in probes) / 2

    base = error(nothing)

    def harms(members: Tensor, assignment: Tensor) -> Tensor:
        parts = members[torch.argsort(assignment, stable=True)].split(assignment.unique(return_counts=True)[1].tolist())
        found = []
        for done, index in enumerate(parts):
            found.append(error(index) - base)
            bench.progress.step("try segments", done + 1, len(parts))
        return torch.tensor(found)

    real = harms(torch.arange(len(segments)), segments)
    # Chance is shown by shuffling the better half: poison, which sits in few segments, would widen it.
    better = (real <= real.median())[segments].nonzero().flatten()
    rng = scenario.rng("provenance shuffles")
    shuffles = -(-2 * NULL_SEGMENTS // len(real))
    mixed = (better[torch.randperm(len(better), generator=rng)] for _ in range(shuffles))
    chance = torch.cat([harms(index, segments[better]) for index in mixed])
    bound = NormalDist().inv_cdf(1 - FALSE_ALARM / len(real))
    return real, float(real.median() + bound * chance.std())


def _unusual_losses(scenario: Scenario, model: Classifier) -> tuple[Tensor, float]:
    """Return losses under the clean model, float [N], and the highest but 1 % of trusted ones."""
    losses = sample_losses(scenario.bench.predict(model, scenario.data.images), scenario.data.labels)
    trusted = sample_losses(scenario.bench.predict(model, scenario.trusted.images), scenario.trusted.labels)
    return losses, float(trusted.quantile(1 - FALSE_ALARM))


def _segments(scenario: Scenario, granularity: str, batch_size: int) -> Tensor:
    """Return the segment of each sample, int64 [N], numbered from 0 without gaps."""
    count = len(scenario.data)
    if granularity == "sample":
        return torch.arange(count)
    if granularity == "batch":
        return torch.arange(count) // batch_size
    if scenario.data.sources is None:
        raise UsageError("provenance_tracking.granularity: the data names no sources; choose sample or batch")
    segments: Tensor = scenario.data.sources.unique(return_inverse=True)[1]
    return segments


def _detection(scores: Tensor, cut: float, granularity: str, segments: Tensor, trusted: int) -> Detection:
    flagged = scores > cut
    details = {
        "granularity": granularity,
        "threshold": cut,
        "segments": int(segments.max()) + 1,
        "segments_removed": len(segments[flagged].unique()),
        "trusted_used": trusted,
    }
    return Detection(scores, flagged, details)
