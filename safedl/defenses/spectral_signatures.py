"""Spectral signatures: poison leaves a direction of large variance in a class's features."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from safedl.catalog.defenses.backdoor import SpectralSignaturesParams
from safedl.defenses import trusted_space
from safedl.defenses.contract import Detection, Scenario


def detect(scenario: Scenario, params: SpectralSignaturesParams) -> Detection:
    """Flag the samples with large scores along their class's leading singular directions (Tran, Li, Madry 2018).

    With trusted data the features are whitened by it first (Hayase et al. 2021), and only classes whose upper group of
    scores holds almost no trusted image lose samples: those above the gap between the groups. Without, the share
    `1 - threshold` of every class is removed, as in the first paper. Scores are squared lengths, 0 or more.
    `variant="literal"`: the absolute projection on one direction, above its quantile in every class.
    """
    if params.variant == "paper" and params.trusted and trusted_space.usable(scenario):
        return _against_trusted(scenario, params)
    features, labels = scenario.features(), scenario.data.labels
    scores, flagged = torch.zeros(len(labels)), torch.zeros(len(labels), dtype=torch.bool)
    cuts: dict[str, Any] = {}
    for label, name in enumerate(scenario.classes):
        scenario.bench.progress.step("score", label, scenario.num_classes)
        members = (labels == label).nonzero().flatten()
        if not len(members):
            continue
        if params.variant == "literal":
            scores[members] = spectral_scores(features[members], 1).sqrt()
        else:
            scores[members] = spectral_scores(features[members], params.directions)
        cut = scores[members].quantile(params.threshold)
        flagged[members] = scores[members] > cut
        cuts[name] = {"cut": float(cut)}
    return Detection(scores, flagged, {"trusted_used": 0, "classes": cuts})


def spectral_scores(features: Tensor, directions: int) -> Tensor:
    """Return the squared length [n] of the centred features [n, D] along their leading singular directions.

    Features are centred both to find the directions and to score: without, the score depends on the class's mean.
    """
    centred = features - features.mean(0)
    return (centred @ leading_directions(centred, directions)).square().sum(1)


def leading_directions(centred: Tensor, count: int) -> Tensor:
    """Return the `count` leading right singular vectors, as columns [D, count], of a matrix [n, D]."""
    vectors: Tensor = torch.linalg.eigh(centred.T.double() @ centred.double()).eigenvectors
    return vectors[:, -count:].float()


def _against_trusted(scenario: Scenario, params: SpectralSignaturesParams) -> Detection:
    def fit(space: trusted_space.Whitened) -> trusted_space.Scorer:
        def basis(label: int) -> Tensor:
            members = space.training[space.labels == label]
            return leading_directions(members - members.mean(0), params.directions)

        bases = [basis(label) for label in range(scenario.num_classes)]
        return lambda values, label: (values @ bases[label]).square().sum(1)  # whitening centres at the trusted mean

    scores, trusted_scores = trusted_space.scores_by_class(scenario, fit)
    return trusted_space.decide(scenario, scores, trusted_scores, quantile=params.threshold)
