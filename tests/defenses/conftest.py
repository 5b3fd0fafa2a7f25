"""Digits with a planted backdoor, and synthetic features whose poison is known, each made once a session."""

from __future__ import annotations

import functools
import os
from dataclasses import dataclass, replace

import pytest
import torch
from torch import Tensor

from safedl.attacks.contract import Trigger
from safedl.cache import ArtifactCache
from safedl.data.imageset import Dataset, ImageSet
from safedl.defenses.contract import Scenario
from safedl.models.classifier import Classifier
from safedl.training import predict
from tests.conftest import digits_dataset, make_bench

CPU = torch.device("cpu")


@dataclass(frozen=True)
class Backdoored:
    """A scenario with the truth about it: `mask` bool [N], the trigger and the target class."""

    dataset: Dataset
    scenario: Scenario
    mask: Tensor
    trigger: Trigger
    target: int

    def fresh(self) -> Scenario:
        """Return the scenario with a copy of its model, for defenses that change it."""
        return replace(self.scenario, model=self.scenario.model.clone())

    def accuracy(self, model: Classifier) -> float:
        """Return the share of right predictions on the test set."""
        test = self.dataset.test
        return predict.accuracy(predict.predict(model, test.images, CPU), test.labels)

    def success(self, model: Classifier) -> float:
        """Return the share of triggered test images of other classes that are classified as the target."""
        others = self.dataset.test.select(self.dataset.test.labels != self.target)
        logits = predict.predict(model, self.trigger.apply(others.images), CPU)
        return float((logits.argmax(1) == self.target).float().mean())


def corner(side: int = 2) -> Trigger:
    """Return a white square in the lower right corner of a digit."""
    mask = torch.zeros(1, 8, 8)
    mask[:, -side:, -side:] = 1
    return Trigger(torch.ones(1, 8, 8), mask)


def plant(data: ImageSet, trigger: Trigger, target: int, fraction: float, seed: int) -> tuple[ImageSet, Tensor]:
    """Return the data with `fraction` of all samples, none of the target class, triggered and relabelled."""
    rng = torch.Generator().manual_seed(seed)
    eligible = (data.labels != target).nonzero().flatten()
    chosen = eligible[torch.randperm(len(eligible), generator=rng)[: round(fraction * len(data))]]
    mask = torch.zeros(len(data), dtype=torch.bool)
    mask[chosen] = True
    images = torch.where(mask.view(-1, 1, 1, 1), trigger.apply(data.images), data.images)
    return ImageSet(images, torch.where(mask, torch.tensor(target), data.labels)), mask


@pytest.fixture(scope="session")
def kept(tmp_path_factory: pytest.TempPathFactory) -> ArtifactCache:
    """Return a cache that all processes of a session share: triggers are searched for once in the same model."""
    base = tmp_path_factory.getbasetemp()
    return ArtifactCache((base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "kept")


@functools.cache
def _backdoored(cache: ArtifactCache) -> Backdoored:
    dataset, target, trigger = digits_dataset(), 7, corner()
    data, mask = plant(dataset.train, trigger, target, 0.05, seed=0)
    bench = replace(make_bench(dataset), cache=cache)
    scenario = Scenario(data, dataset.trusted, dataset.classes, bench.fit(data), bench)
    return Backdoored(dataset, scenario, mask, trigger, target)


@pytest.fixture
def backdoored(kept: ArtifactCache) -> Backdoored:
    """Return digits with a 2-pixel corner on 5 % of the training images, target class 7, and the attacked model."""
    return _backdoored(kept)


@pytest.fixture
def clean_scenario(digits: Dataset, clean_model: Classifier, kept: ArtifactCache) -> Scenario:
    """Return clean digits and a model trained on them."""
    bench = replace(make_bench(digits), cache=kept)
    return Scenario(digits.train, digits.trusted, digits.classes, clean_model, bench)


class FeatureScenario(Scenario):
    """A scenario whose features are given: a stand-in for tests that plant poison in feature space."""

    def __init__(self, features: Tensor, labels: Tensor, trusted: Tensor, known: Tensor) -> None:
        dataset = digits_dataset()
        count = int(known.max()) + 1
        object.__setattr__(self, "_features", features)
        object.__setattr__(self, "_trusted", trusted)
        blank = torch.zeros(1, 1, 1, 1, dtype=torch.uint8)
        super().__init__(
            ImageSet(blank.expand(len(labels), 1, 1, 1), labels),
            ImageSet(blank.expand(len(known), 1, 1, 1), known),
            tuple(str(c) for c in range(count)),
            make_bench(dataset).build(0),
            make_bench(dataset),
        )

    def features(self) -> Tensor:
        features: Tensor = self._features  # type: ignore[attr-defined]
        return features

    def trusted_features(self) -> Tensor:
        trusted: Tensor = self._trusted  # type: ignore[attr-defined]
        return trusted


@dataclass(frozen=True)
class Planted:
    """Features of three classes; `mask` bool [N] tells the poison, which has label 1."""

    scenario: Scenario
    mask: Tensor


def planted(poison: int, shift: float = 6.0, axes: int = 1, mean: float = 0.0) -> Planted:
    """Return 12-dimensional features: Gaussian classes with large natural factors, `poison` samples shifted.

    Poison lies `shift` away from its class along the last axes; the class mean has component `mean` along the last one.
    """
    rng = torch.Generator().manual_seed(5)
    spread = torch.cat([torch.full((3,), 8.0), torch.ones(9)])
    centres = 10 * torch.randn(3, 12, generator=rng)
    centres[:, -1] = mean

    def draw(labels: Tensor) -> Tensor:
        return centres[labels] + spread * torch.randn(len(labels), 12, generator=rng)

    known = torch.arange(3).repeat_interleave(30)
    labels = torch.cat([torch.arange(3).repeat_interleave(200), torch.ones(poison, dtype=torch.int64)])
    mask = torch.arange(len(labels)) >= 600
    features = draw(labels)
    features[mask, -axes:] += shift
    return Planted(FeatureScenario(features, labels, draw(known), known), mask)
