"""Anomaly detection: isolation forest and local outlier factor on the features of each class."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from sklearn.decomposition import PCA
from sklearn.ensemble import IsolationForest
from sklearn.neighbors import LocalOutlierFactor
from torch import Tensor

from safedl.catalog.defenses.backdoor import AnomalyDetectionParams, AnomalyType
from safedl.defenses import trusted_space
from safedl.defenses.contract import Detection, Scenario

COMPONENTS = 10
TREES = 100
NEIGHBOURS = 20
TRUSTED_NEIGHBOURS = 5
"""Fewer than among training samples: a class may have no more than 20 trusted images."""
DEVIATIONS = 3.0


def detect(scenario: Scenario, params: AnomalyDetectionParams) -> Detection:
    """Flag outliers in feature space (Liu, Ting, Zhou 2008; Breunig et al. 2000).

    With trusted data the detector learns what is normal from the trusted features of each class, whitened, and a class
    loses samples only if its upper group of scores holds almost no trusted image. Without, it is fitted per class on
    10 principal components of the training features and removes what lies 3 robust deviations above the median.
    `variant="literal"`: one detector over all samples, with scikit-learn's own threshold.
    """
    if params.variant == "literal":
        return _over_all(scenario, params.type)
    if params.trusted and trusted_space.usable(scenario):

        def fit(space: trusted_space.Whitened) -> trusted_space.Scorer:
            return _fit_to_trusted(params.type, space, scenario.seed)

        return trusted_space.decide(scenario, *trusted_space.scores_by_class(scenario, fit))
    return _within_classes(scenario, params.type)


def _fit_to_trusted(kind: AnomalyType, space: trusted_space.Whitened, seed: int) -> trusted_space.Scorer:
    """Fit one factor per class, or one forest for all: the whitened classes share centre and spread."""
    if kind == "isolation_forest":
        forest = IsolationForest(n_estimators=TREES, random_state=seed).fit(space.trusted.numpy())
        return lambda values, _label: torch.from_numpy(-forest.score_samples(values.numpy()))
    factors = {}
    for label in space.known.unique().tolist():
        trusted = space.trusted[space.known == label].numpy()
        factors[label] = LocalOutlierFactor(min(TRUSTED_NEIGHBOURS, len(trusted) - 1), novelty=True).fit(trusted)
    return lambda values, label: torch.from_numpy(-factors[label].score_samples(values.numpy()))


def _outlier_scores(kind: AnomalyType, values: npt.NDArray[Any], seed: int) -> tuple[Tensor, float]:
    """Fit to the samples themselves; return their scores, higher is further out, and scikit-learn's threshold."""
    if kind == "lof":
        factor = LocalOutlierFactor(min(NEIGHBOURS, len(values) - 1)).fit(values)
        return torch.from_numpy(-factor.negative_outlier_factor_).float(), -float(factor.offset_)
    forest = IsolationForest(n_estimators=TREES, random_state=seed).fit(values)
    return torch.from_numpy(-forest.score_samples(values)).float(), -float(forest.offset_)


def _within_classes(scenario: Scenario, kind: AnomalyType) -> Detection:
    features, labels = scenario.features().numpy(), scenario.data.labels
    scores, flagged = torch.zeros(len(labels)), torch.zeros(len(labels), dtype=torch.bool)
    cuts: dict[str, Any] = {}
    for label, name in enumerate(scenario.classes):
        scenario.bench.progress.step("score", label, scenario.num_classes)
        members = (labels == label).nonzero().flatten()
        if len(members) < 2:
            continue
        values = features[members.numpy()]
        reduced = PCA(min(COMPONENTS, *values.shape), random_state=scenario.seed).fit_transform(values)
        own, _ = _outlier_scores(kind, reduced.astype(np.float32), scenario.seed)
        cut = robust_cut(own)
        scores[members], flagged[members] = own, own > cut
        cuts[name] = {"cut": cut, "share": float((own > cut).float().mean())}
    return Detection(scores, flagged, {"trusted_used": 0, "classes": cuts})


def robust_cut(scores: Tensor) -> float:
    """Return the median plus 3 deviations, estimated by the median absolute deviation, of scores [n]."""
    median = scores.median()
    return float(median + DEVIATIONS * 1.4826 * (scores - median).abs().median())


def _over_all(scenario: Scenario, kind: AnomalyType) -> Detection:
    scores, cut = _outlier_scores(kind, scenario.features().numpy(), scenario.seed)
    return Detection(scores, scores > cut, {"trusted_used": 0, "cut": cut})
