from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import replace
from unittest.mock import patch

import pytest
import torch
import torch.nn.functional as F
from opacus import privacy_engine
from opacus.accountants import PRVAccountant, RDPAccountant
from opacus.optimizers import DPOptimizer
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from safedl.catalog.defenses.poisoning import DpTrainingParams
from safedl.data.imageset import Dataset, ImageSet
from safedl.defenses import dp_training
from safedl.defenses.contract import Scenario, Trained
from safedl.defenses.dp_training import check_sampler, private_ready, train
from safedl.errors import UsageError
from safedl.models.classifier import Classifier
from safedl.models.dropout import SeededDropout
from safedl.progress import Cancelled, Progress
from tests.conftest import make_bench
from tests.defenses import flips

pytestmark = pytest.mark.filterwarnings("ignore")
SHORT = DpTrainingParams(epochs=2)
LARGE = 20.0
"""A budget for whose noise the quicker accountant is asked."""


@pytest.fixture(scope="module", autouse=True)
def _noise_is_looked_for_once() -> Iterator[None]:
    """The same question to the accountant has the same answer, which takes a second or two to find."""
    with patch.object(privacy_engine, "get_noise_multiplier", functools.cache(privacy_engine.get_noise_multiplier)):
        yield


@pytest.fixture(scope="module")
def scene(digits: Dataset) -> Scenario:
    return flips.scenario(digits, digits.train.labels)


@pytest.fixture(scope="module")
def short(scene: Scenario) -> Trained:
    return train(scene, SHORT)


def test_learns_within_the_budget(digits: Dataset, scene: Scenario, short: Trained) -> None:
    trained = train(scene, DpTrainingParams(epsilon=2.0))
    assert 1.8 <= trained.details["epsilon_spent"] <= 2.0
    assert flips.accuracy(digits, trained.model) >= 0.7
    assert trained.details["noise_multiplier"] > short.details["noise_multiplier"]


def test_epsilon_agrees_with_another_accountant(digits: Dataset, short: Trained) -> None:
    """The RDP accountant bounds epsilon from above, a little less tightly."""
    details, other = short.details, RDPAccountant()
    rate = 1 / (details["steps"] / SHORT.epochs)
    for _ in range(details["steps"]):
        other.step(noise_multiplier=details["noise_multiplier"], sample_rate=rate)
    bound = other.get_epsilon(delta=SHORT.delta)
    assert details["epsilon_spent"] <= bound <= 1.5 * details["epsilon_spent"]


def test_the_noise_is_that_of_the_seed(scene: Scenario) -> None:
    first, again, other = (
        torch.randn(4, generator=dp_training._noise_generator(replace(scene, bench=bench), torch.device("cpu")))
        for bench in (scene.bench, scene.bench, replace(scene.bench, seed=1))
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_the_result_is_a_plain_classifier_and_repeats(scene: Scenario, short: Trained) -> None:
    before = torch.random.get_rng_state()
    again = train(scene, SHORT)
    assert torch.equal(before, torch.random.get_rng_state())
    for a, b in zip(short.model.parameters(), again.model.parameters(), strict=True):
        assert torch.equal(a, b)
        assert not hasattr(a, "grad_sample")
    assert short.model.clone().with_features(torch.zeros(2, 1, 8, 8))[0].shape == (2, 128)
    assert short.details["sampler"] == "UniformWithReplacementSampler"


def test_batch_normalisation_becomes_group_normalisation(digits: Dataset) -> None:
    model = private_ready(make_bench(digits, "cnn").build(0))
    kinds = {type(m) for m in model.modules()}
    assert nn.GroupNorm in kinds
    assert nn.BatchNorm2d not in kinds


class Residual(nn.Module):
    """A network that adds in place, as torchvision's residual blocks do."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.act = nn.ReLU(inplace=True)
        self.fc = nn.Linear(256, 10)

    def forward(self, images: Tensor) -> Tensor:
        values: Tensor = self.norm(self.conv(images))
        values += images
        logits: Tensor = self.fc(self.act(values).flatten(1))
        return logits


def test_networks_that_work_in_place_can_be_trained(digits: Dataset) -> None:
    few = digits.train.select(torch.arange(64))
    with torch.random.fork_rng():
        fresh = Classifier(Residual(), [0.3], [0.4], (1, 8, 8))
    bench = replace(make_bench(digits), build=lambda _seed: fresh.clone())
    trained = train(
        Scenario(few, digits.trusted, digits.classes, fresh, bench), DpTrainingParams(epochs=1, epsilon=LARGE)
    )
    expected = private_ready(fresh).state_dict()
    assert trained.model.state_dict().keys() == expected.keys()
    assert all(not torch.equal(value, expected[f"net.{name}"]) for name, value in trained.model.net.named_parameters())


def test_empty_batches_are_steps_of_noise(digits: Dataset) -> None:
    few = digits.train.select(torch.arange(40))
    scene = Scenario(few, digits.trusted, digits.classes, make_bench(digits, "mlp").build(0), make_bench(digits, "mlp"))
    trained = train(scene, DpTrainingParams(batch_size=1, epochs=2))
    assert trained.details["empty_batches"] > 5
    assert all(p.isfinite().all() for p in trained.model.parameters())


def test_physical_batches_do_not_change_the_result(scene: Scenario, short: Trained) -> None:
    parts = train(scene, SHORT.model_copy(update={"physical_batch_size": 64}))
    for a, b in zip(short.model.parameters(), parts.model.parameters(), strict=True):
        assert torch.allclose(a, b, atol=1e-4)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"delta": 1e-3}, "delta: 0.001 protects nobody"),
        ({"batch_size": 5000}, "batch_size: 5000 is more than"),
        ({"secure_mode": True}, "torchcsprng"),
        ({"epsilon": 1e-9, "epochs": 1}, "cannot be reached"),
    ],
)
def test_refuses_what_would_not_be_valid(scene: Scenario, params: dict[str, float], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        train(scene, DpTrainingParams.model_validate(params))


def test_refuses_a_loader_that_shuffles() -> None:
    with pytest.raises(UsageError, match="Poisson"):
        check_sampler(DataLoader(TensorDataset(torch.arange(8)), batch_size=4, shuffle=True))


def test_can_be_cancelled(scene: Scenario) -> None:
    class Stop(Progress):
        def step(self, phase: str, done: int, total: int) -> None:
            raise Cancelled

    stopped = replace(scene, bench=replace(scene.bench, progress=Stop()))
    with pytest.raises(Cancelled):
        train(stopped, SHORT)


@pytest.mark.parametrize("channels", [1, 3])
def test_gradients_of_single_images_are_right_and_clipped_as_asked(
    digits: Dataset, monkeypatch: pytest.MonkeyPatch, channels: int
) -> None:  # fmt: skip
    """Against one image at a time, by plain PyTorch: in some memory formats Opacus computes others."""
    images, labels = digits.train.images[:6].repeat(1, channels, 1, 1), digits.train.labels[:6]
    images[:, channels - 1] = 255 - images[:, channels - 1]
    data = ImageSet(images, labels)
    dataset = replace(digits, train=data, trusted=data, test=data)
    compared = []

    def descend(
        scenario: Scenario, params: DpTrainingParams, private: nn.Module, optimizer: DPOptimizer, *_: object
    ) -> int:
        assert optimizer.max_grad_norm == params.clip_norm == 0.3
        plain = private_ready(scenario.bench.build(scenario.seed))
        F.cross_entropy(private(dp_training._batch(images, torch.device("cpu"))), labels).backward()
        for index in range(len(images)):
            loss = F.cross_entropy(plain(images[index : index + 1].float() / 255), labels[index : index + 1])
            exact = torch.autograd.grad(loss, list(plain.parameters()))
            for weight, slope in zip(private.parameters(), exact, strict=True):
                assert torch.allclose(
                    weight.grad_sample[index], slope, rtol=1e-3, atol=1e-5 + 1e-4 * float(slope.abs().max())
                )
                compared.append(len(slope))
        raise Cancelled

    monkeypatch.setattr(dp_training, "_descend", descend)
    scene = Scenario(data, data, digits.classes, make_bench(dataset).build(0), make_bench(dataset))
    with pytest.raises(Cancelled):
        train(scene, DpTrainingParams(epochs=1, epsilon=50.0, batch_size=3, clip_norm=0.3))
    assert len(compared) >= 6 * 8


def test_the_batch_size_told_is_the_one_drawn(scene: Scenario) -> None:
    params = DpTrainingParams(epochs=1, batch_size=1000, epsilon=LARGE)  # of 1,093 images: two steps an epoch
    details = train(scene, params).details
    assert (details["steps"], details["batch_size"]) == (2, 1093 // 2)


def test_noise_and_steps_are_those_of_the_parameters(scene: Scenario, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[float, float, float]] = []

    def descend(_scene: Scenario, _params: DpTrainingParams, _private: nn.Module, made: DPOptimizer, *_: object) -> int:
        seen.append((made.param_groups[0]["lr"], made.param_groups[0]["momentum"], float(made.noise_multiplier)))
        raise Cancelled

    monkeypatch.setattr(dp_training, "_descend", descend)
    for delta in (1e-4, 1e-8):
        with pytest.raises(Cancelled):
            train(scene, DpTrainingParams(epochs=2, batch_size=273, delta=delta, learning_rate=0.25, momentum=0.125))
    assert [rates[:2] for rates in seen] == [(0.25, 0.125)] * 2
    for (_, _, noise), delta in zip(seen, (1e-4, 1e-8), strict=True):
        spent = PRVAccountant()
        spent.history = [(noise, 1 / 5, 10)]  # 1,093 images in five batches an epoch
        assert spent.get_epsilon(delta=delta) == pytest.approx(2.0, rel=0.02)


@pytest.mark.parametrize("epsilon", [LARGE, 1e6])
def test_a_large_budget_comes_to_an_end(scene: Scenario, epsilon: float) -> None:
    """The PRV accountant finds no noise for it."""
    details = train(scene, DpTrainingParams(epsilon=epsilon, epochs=1)).details
    assert 0.95 * epsilon <= details["epsilon_spent"] <= epsilon
    assert details["accountant"] == "rdp"


class Spare(nn.Module):
    """Has a layer that it does not use, and one that drops."""

    def __init__(self) -> None:
        super().__init__()
        self.spare, self.hidden = nn.Linear(64, 3), nn.Linear(64, 16)
        self.drop, self.head = SeededDropout(0.5, seed=0), nn.Linear(16, 10)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.head(self.drop(torch.relu(self.hidden(images.flatten(1)))))
        return logits


def test_what_a_model_does_not_use_stays_as_it_is(scene: Scenario) -> None:
    def build(seed: int) -> Classifier:
        torch.manual_seed(seed)
        return Classifier(Spare(), [0.5], [0.3], (1, 8, 8))

    fresh = build(0)
    trained = train(replace(scene, bench=replace(scene.bench, build=build)), SHORT).model
    assert torch.equal(trained.net.spare.weight, fresh.net.spare.weight)
    assert not torch.equal(trained.net.hidden.weight, fresh.net.hidden.weight)
    assert trained.net.drop.p == 0.5


def test_frozen_layers_stay_as_they_are(scene: Scenario) -> None:
    def build(seed: int) -> Classifier:
        torch.manual_seed(seed)
        model = Classifier(Spare(), [0.5], [0.3], (1, 8, 8))
        model.net.hidden.requires_grad_(False)
        return model

    trained = train(replace(scene, bench=replace(scene.bench, build=build)), SHORT).model
    assert torch.equal(trained.net.hidden.weight, build(0).net.hidden.weight)
    assert not torch.equal(trained.net.head.weight, build(0).net.head.weight)


def test_a_transformer_with_dropout(digits: Dataset) -> None:
    bench = make_bench(digits, "vit", dropout=0.1)
    few = digits.train.select(torch.arange(200))
    scene = Scenario(few, digits.trusted, digits.classes, bench.build(0), bench)
    assert train(scene, DpTrainingParams(epochs=1, batch_size=50, delta=1e-3, epsilon=LARGE)).details["steps"] == 4
