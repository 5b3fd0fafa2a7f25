from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from pydantic import ValidationError

from safedl.catalog.defenses.poisoning import RobustLossParams
from safedl.data.imageset import Dataset
from safedl.defenses.robust_loss import train
from safedl.progress import Progress
from tests.defenses import flips


@pytest.mark.parametrize("kind", ["gce", "symmetric_cross_entropy", "label_smoothing"])
def test_half_of_the_lost_accuracy_comes_back(digits: Dataset, kind: str) -> None:
    clean = flips.scenario(digits, digits.train.labels)
    before = flips.accuracy(digits, clean.fit(clean.data))
    scene = flips.scenario(digits, flips.flip(digits.train.labels, "many_to_one", 0.4))
    attacked = flips.accuracy(digits, scene.fit(scene.data))
    trained = train(scene, RobustLossParams(type=kind))
    assert attacked < before - 0.1
    assert flips.accuracy(digits, trained.model) >= (before + attacked) / 2
    assert trained.details["type"] == kind


def test_clean_data_loses_nothing(digits: Dataset) -> None:
    scene = flips.scenario(digits, digits.train.labels)
    plain = flips.accuracy(digits, scene.fit(scene.data))
    robust = flips.accuracy(digits, train(scene, RobustLossParams()).model)
    assert robust >= plain - 0.01


def test_the_bare_loss_takes_the_whole_recipe(digits: Dataset) -> None:
    scene = flips.scenario(digits, digits.train.labels)
    trained = train(scene, RobustLossParams(warmup=0, balanced=False))
    assert trained.details["warmup_epochs"] == 0
    from safedl.training.losses import generalized_cross_entropy

    same = scene.fit(scene.data, loss=generalized_cross_entropy(0.7))
    assert all(torch.equal(a, b) for a, b in zip(trained.model.parameters(), same.parameters(), strict=True))


def test_warmup_is_part_of_the_recipes_epochs(digits: Dataset) -> None:
    epochs: list[int] = []

    class Counting(Progress):
        def metric(self, name: str, step: int, value: float) -> None:
            if name == "train.loss":
                epochs.append(step)

    scene = flips.scenario(digits, digits.train.labels)
    few = replace(scene, data=scene.data.select(torch.arange(64)), bench=replace(scene.bench, progress=Counting()))
    assert train(few, RobustLossParams(warmup=0.5)).details["warmup_epochs"] == 6
    assert epochs == [*range(1, 7), *range(1, 7)]


@pytest.mark.parametrize(("epochs", "warmup"), [(1, 0.6), (2, 0.9)])
def test_a_long_warmup_leaves_an_epoch_for_the_loss(digits: Dataset, epochs: int, warmup: float) -> None:
    scene = flips.scenario(digits, digits.train.labels)
    scene.bench.training = scene.bench.training.model_copy(update={"epochs": epochs})
    assert train(scene, RobustLossParams(warmup=warmup)).details["warmup_epochs"] == epochs - 1


def test_symmetric_cross_entropy_of_no_weight_is_refused() -> None:
    with pytest.raises(ValidationError, match="alpha and beta are both 0"):
        RobustLossParams(type="symmetric_cross_entropy", alpha=0, beta=0)
    assert RobustLossParams(type="symmetric_cross_entropy", alpha=0.1, beta=0).beta == 0
    assert RobustLossParams(type="gce", alpha=0, beta=0).beta == 0
