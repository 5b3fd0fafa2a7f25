"""Digits with wrong labels, for defenses against them."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from safedl.data.imageset import Dataset
from safedl.defenses.contract import Detection, Scenario
from safedl.models.classifier import Classifier
from safedl.training import predict
from tests.conftest import make_bench


def flip(labels: Tensor, kind: str, rate: float, target: int = 6) -> Tensor:
    """Return labels int64 [N], a share of which is another digit: `target`, or any."""
    rng = torch.Generator().manual_seed(1)
    eligible = (labels != target if kind == "many_to_one" else labels >= 0).nonzero().flatten()
    chosen = eligible[torch.randperm(len(eligible), generator=rng)[: round(rate * len(eligible))]]
    other = (labels[chosen] + torch.randint(1, 10, (len(chosen),), generator=rng)) % 10
    return labels.index_put((chosen,), torch.tensor(target) if kind == "many_to_one" else other)


def scenario(dataset: Dataset, labels: Tensor, model: str = "mlp", fitted: bool = False) -> Scenario:
    """Return the training images under `labels`; the model is trained on them if `fitted`."""
    bench = make_bench(dataset, model)
    data = dataset.train.with_labels(labels)
    attacked = bench.fit(data) if fitted else bench.build(0)
    return Scenario(data, dataset.trusted, dataset.classes, attacked, bench)


def accuracy(dataset: Dataset, model: Classifier) -> float:
    """Return the share of right predictions on the test set."""
    logits = predict.predict(model, dataset.test.images, torch.device("cpu"))
    return predict.accuracy(logits, dataset.test.labels)


def rates(detection: Detection, wrong: Tensor) -> tuple[float, float, float]:
    """Return precision, recall and false positive rate."""
    flagged = detection.flagged
    hits = float((flagged & wrong).sum())
    return (
        hits / max(1, int(flagged.sum())),
        hits / max(1, int(wrong.sum())),
        float((flagged & ~wrong).sum()) / int((~wrong).sum()),
    )


def without_trusted(scenario: Scenario) -> Scenario:
    """Return the scenario with no trusted holdout."""
    return replace(scenario, trusted=scenario.trusted.select(torch.zeros(len(scenario.trusted), dtype=torch.bool)))


def rare_class(scenario: Scenario, label: int) -> Scenario:
    """Return the scenario with four samples of a class, too few to hold any out as trusted."""
    kept = scenario.data.labels != label
    kept[(~kept).nonzero().flatten()[:4]] = True
    trusted = scenario.trusted.select(scenario.trusted.labels != label)
    return replace(scenario, data=scenario.data.select(kept), trusted=trusted)
