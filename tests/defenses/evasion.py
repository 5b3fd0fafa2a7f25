"""What the tests of defenses against adversarial images share."""

from __future__ import annotations

import torch
from torch import Tensor

from safedl.attacks.contract import EvasionContext
from safedl.attacks.evasion import pgd
from safedl.attacks.evasion.batches import perturb_all
from safedl.catalog import ATTACKS
from safedl.catalog.attacks.evasion import PgdParams
from safedl.data.imageset import Dataset
from safedl.models.classifier import Classifier
from safedl.training import predict
from safedl.training.fit import to_float

CPU = torch.device("cpu")


def accuracy(dataset: Dataset, model: Classifier) -> float:
    """Return the share of right predictions on the test set."""
    return predict.accuracy(predict.predict(model, dataset.test.images, CPU), dataset.test.labels)


def pgd_accuracy(dataset: Dataset, model: Classifier, epsilon: float, steps: int = 10) -> float:
    """Return the share of test images that `model` gets right after PGD through its surrogate."""
    params = PgdParams(epsilon=epsilon, alpha=2.5 * epsilon / steps, num_iter=steps)
    context = EvasionContext(torch.Generator().manual_seed(0), len(dataset.classes))
    test = dataset.test
    found = perturb_all(ATTACKS["pgd"], pgd.perturb, model, test.images, test.labels, params, context, CPU)
    with torch.no_grad():
        return predict.accuracy(model(found.images), test.labels)


def batch(dataset: Dataset, count: int = 64) -> tuple[Tensor, Tensor]:
    """Return the first test images, float32 in [0, 1], and their labels."""
    return to_float(dataset.test.images[:count], CPU), dataset.test.labels[:count]


def same_weights(a: Classifier, b: Classifier) -> bool:
    """Return whether two models have the same weights and buffers under the same names."""
    first, second = a.state_dict(), b.state_dict()
    return first.keys() == second.keys() and all(torch.equal(first[k], second[k]) for k in first)
