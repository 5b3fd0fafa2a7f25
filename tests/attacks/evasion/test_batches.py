from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from safedl.attacks.contract import Perturb, Perturbation
from safedl.attacks.evasion import batches
from safedl.attacks.evasion.batches import perturb_all
from safedl.catalog import ATTACKS
from tests.attacks.evasion.helpers import context, linear


@pytest.fixture(autouse=True)
def _small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "BATCH", 4)


def run(attack: Perturb, count: int, epsilon: float = 0.1) -> tuple[Perturbation, Tensor]:
    """Return what `attack` makes of images that the model gets right, and their labels."""
    case, spec = linear(count=count), ATTACKS["fgsm"]
    images = (case.images * 255).round().to(torch.uint8)
    labels = case.model(images.float() / 255).argmax(1)
    params = spec.params.model_validate({"epsilon": epsilon})
    return perturb_all(spec, attack, case.model, images, labels, params, context(), torch.device("cpu")), labels


def test_each_batch_comes_with_its_own_labels() -> None:
    given: list[Tensor] = []

    def note(_model: Any, images: Tensor, labels: Tensor, *_rest: Any) -> Perturbation:
        given.append(labels)
        return Perturbation(images, torch.ones(len(images), dtype=torch.int64))

    found, labels = run(note, 10)
    assert [len(part) for part in given] == [4, 4, 2]
    assert torch.equal(torch.cat(given), labels)
    assert found.queries.tolist() == [1] * 10


def test_images_outside_the_budget_are_counted_over_all_batches() -> None:
    def far(_model: Any, images: Tensor, *_rest: Any) -> Perturbation:
        return Perturbation(images + 0.5, torch.ones(len(images), dtype=torch.int64))

    assert run(far, 12)[0].details["num_rejected"] == 12


def test_rounding_beyond_the_range_is_cut_off() -> None:
    def bright(_model: Any, images: Tensor, *_rest: Any) -> Perturbation:
        return Perturbation(torch.full_like(images, 1 + 5e-6), torch.ones(len(images), dtype=torch.int64))

    found, _ = run(bright, 4, epsilon=1.0)
    assert found.details["num_rejected"] == 0 and float(found.images.max()) == 1.0
