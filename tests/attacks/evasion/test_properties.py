"""What holds for every attack, model and image."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from safedl.attacks.contract import EvasionContext, Perturbation
from safedl.attacks.evasion.batches import TOLERANCE, perturb_all
from safedl.attacks.evasion.gradient import margin
from safedl.catalog import AttackSpec
from safedl.catalog.attacks.evasion import ATTACKS
from safedl.models.classifier import Classifier
from safedl.training.fit import to_float

CPU = torch.device("cpu")
SHORT: dict[str, dict[str, Any]] = {
    "fgsm": {},
    "pgd": {"num_iter": 4},
    "cw": {"max_iterations": 20, "binary_search_steps": 3, "initial_const": 0.1, "learning_rate": 0.05},
    "deepfool": {"max_iter": 6},
    "nes": {"num_queries": 40, "batch_size": 8},
    "spsa": {"num_steps": 4, "batch_size": 8},
    "square": {"num_queries": 20},
    "hopskipjump": {"num_queries": 120, "initial_evals": 10},
    "transfer": {"num_iter": 3},
}
EVERY = pytest.mark.parametrize("spec", ATTACKS, ids=lambda spec: spec.name)


@dataclass(frozen=True)
class Case:
    model: Classifier
    images: Tensor
    labels: Tensor


def network(shape: tuple[int, int, int], seed: int, classes: int = 4) -> Classifier:
    """Return a small network with random weights that are large enough to be sure of its answers."""
    rng = torch.Generator().manual_seed(seed)
    net = nn.Sequential(
        nn.Conv2d(shape[0], 6, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(6 * shape[1] * shape[2], classes)
    )
    for parameter in net.parameters():
        parameter.data = 0.4 * torch.randn(parameter.shape, generator=rng)
    return Classifier(net, [0.5] * shape[0], [0.5] * shape[0], shape).eval()


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Images of black, white and whatever is between; labels of which some are wrong."""
    channels, height, width = draw(st.sampled_from([1, 3])), draw(st.integers(2, 6)), draw(st.integers(2, 6))
    count, seed = draw(st.integers(1, 5)), draw(st.integers(0, 999))
    rng = torch.Generator().manual_seed(seed)
    images = torch.randint(-128, 384, (count, channels, height, width), generator=rng).clamp(0, 255).to(torch.uint8)
    model = network((channels, height, width), seed)
    labels = model(to_float(images, CPU)).argmax(1)
    wrong = torch.rand(count, generator=rng) < 0.25
    return Case(model, images, (labels + wrong.long()) % 4)


@functools.cache
def function(name: str) -> Any:
    return importlib.import_module(f"safedl.attacks.evasion.{name}").perturb


def attack(spec: AttackSpec, case: Case, epsilon: float | None, seed: int = 0) -> Perturbation:
    def substitute(_name: str, _params: Mapping[str, Any]) -> Classifier:
        return network(case.model.shape, 1000)

    params = spec.params.model_validate({**SHORT[spec.name], "epsilon": epsilon})
    context = EvasionContext(torch.Generator().manual_seed(seed), 4, substitute=substitute)
    return perturb_all(spec, function(spec.name), case.model, case.images, case.labels, params, context, CPU)


def right(case: Case, images: Tensor) -> Tensor:
    with torch.no_grad():
        found: Tensor = case.model(images).argmax(1) == case.labels
    return found


@EVERY
@settings(max_examples=20, deadline=None, derandomize=True)
@given(case=cases(), epsilon=st.floats(0.001, 0.6), seed=st.integers(0, 99))
def test_images_are_valid_within_the_budget_and_never_easier(
    spec: AttackSpec, case: Case, epsilon: float, seed: int
) -> None:
    original = to_float(case.images, CPU)
    before = right(case, original)
    found = attack(spec, case, epsilon, seed)
    assert found.images.dtype == torch.float32
    assert found.images.shape == case.images.shape
    assert found.images.isfinite().all()
    assert found.images.min() >= 0
    assert found.images.max() <= 1
    change = (found.images - original).flatten(1)
    length = change.norm(dim=1) if spec.norm == "l2" else change.abs().amax(1)
    assert (length <= epsilon + TOLERANCE).all()
    assert found.details["num_rejected"] == 0  # the attack itself keeps to the budget
    assert not (right(case, found.images) & ~before).any()
    assert torch.equal(found.images[~before], original[~before])
    assert (found.queries[~before] == 0).all()
    assert ((found.queries[before] > 0) == (spec.access != "transfer")).all()


@EVERY
@settings(max_examples=6, deadline=None, derandomize=True)
@given(case=cases())
def test_epsilon_0_changes_nothing(spec: AttackSpec, case: Case) -> None:
    assert torch.equal(attack(spec, case, 0.0).images, to_float(case.images, CPU))


@EVERY
@settings(max_examples=6, deadline=None, derandomize=True)
@given(case=cases(), seed=st.integers(0, 99))
def test_the_same_seed_gives_the_same_images(spec: AttackSpec, case: Case, seed: int) -> None:
    epsilon = 1.0 if spec.norm == "l2" else 0.1
    one, two = attack(spec, case, epsilon, seed), attack(spec, case, epsilon, seed)
    assert torch.equal(one.images, two.images)
    assert torch.equal(one.queries, two.queries)


@pytest.mark.parametrize("name", ["pgd", "nes", "spsa", "square", "hopskipjump"])
def test_another_seed_gives_other_images(name: str) -> None:
    spec = next(spec for spec in ATTACKS if spec.name == name)
    rng = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (6, 1, 6, 6), generator=rng, dtype=torch.uint8)
    model = network((1, 6, 6), 0)
    case = Case(model, images, model(to_float(images, CPU)).argmax(1))
    epsilon = None if spec.norm == "l2" else 0.05
    assert not torch.equal(attack(spec, case, epsilon, 0).images, attack(spec, case, epsilon, 1).images)


@pytest.mark.parametrize("name", ["cw", "deepfool", "hopskipjump"])
@settings(max_examples=10, deadline=None, derandomize=True)
@given(case=cases())
def test_without_a_budget_what_is_changed_is_misclassified(name: str, case: Case) -> None:
    spec = next(spec for spec in ATTACKS if spec.name == name)
    found = attack(spec, case, None)
    changed = (found.images != to_float(case.images, CPU)).flatten(1).any(1)
    with torch.no_grad():
        lead = margin(case.model(found.images), case.labels)
    assert (lead[changed] < 1e-4).all()  # what is on the boundary may round to either side


@EVERY
def test_a_model_without_gradients_or_answers_does_no_harm(spec: AttackSpec) -> None:
    model = network((1, 5, 5), 0)
    for parameter in model.parameters():
        parameter.data.zero_()
    images = torch.randint(0, 256, (3, 1, 5, 5), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    case = Case(model, images, torch.zeros(3, dtype=torch.int64))  # every class has the same score; the first wins
    found = attack(spec, case, 0.1)
    assert found.images.isfinite().all()
    assert right(case, found.images).all()
