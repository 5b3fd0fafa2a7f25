"""What holds for every guard."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from safedl import catalog
from safedl.catalog.spec import Params
from safedl.data.imageset import Dataset
from safedl.defenses import load
from safedl.defenses.contract import Scenario
from safedl.defenses.guard import Guard
from safedl.models.classifier import Classifier
from tests.conftest import make_bench
from tests.defenses.evasion import batch, same_weights

GUARDS = ("randomized_smoothing", "jpeg_preprocessing", "gradient_masking")


def guarded(scenario: Scenario, name: str) -> Guard:
    spec = catalog.defense(name)
    changed = {"num_samples": 20, "eot_samples": 2} if name == "randomized_smoothing" else {}
    params: Params = spec.params.model_validate(changed)
    few = replace(scenario, data=scenario.data.select(torch.arange(300)))
    guard = load(spec)(few, params)
    assert isinstance(guard, Guard)
    return guard


@pytest.mark.parametrize("name", GUARDS)
def test_it_answers_alike_for_any_batch_copy_and_device(digits: Dataset, clean_scenario: Scenario, name: str) -> None:
    guard = guarded(clean_scenario, name)
    images, _ = batch(digits, 40)
    answers = guard(images)
    assert answers.shape == (40, 10)
    assert answers.isfinite().all()
    scale = answers.abs().max()
    assert torch.equal(answers, guard(images))
    assert torch.equal(answers, guard.clone().to("cpu")(images))
    assert (guard(images[7:12]) - answers[7:12]).abs().max() <= 1e-4 * scale
    assert len(guard(images[:0])) == 0


@pytest.mark.parametrize("name", GUARDS)
def test_it_is_frozen_and_in_eval_mode(clean_scenario: Scenario, name: str) -> None:
    guard = guarded(clean_scenario, name)
    assert not any(module.training for module in guard.modules())
    assert not any(parameter.requires_grad for parameter in guard.parameters())


@pytest.mark.parametrize("name", GUARDS)
def test_its_weights_load_into_a_plain_classifier_and_back(
    digits: Dataset, clean_scenario: Scenario, name: str
) -> None:
    guard = guarded(clean_scenario, name)
    images, _ = batch(digits, 8)
    plain: Classifier = make_bench(digits).build(1)
    plain.load_state_dict(guard.state_dict())
    assert same_weights(plain, guard)
    assert torch.allclose(plain.eval()(images), guard.classify(images), atol=1e-4)


@pytest.mark.parametrize("name", GUARDS)
def test_forward_hides_the_gradient_and_the_surrogate_shows_it(
    digits: Dataset, clean_scenario: Scenario, name: str
) -> None:
    guard = guarded(clean_scenario, name)
    assert guard.hides_gradient == (name != "randomized_smoothing")
    images, labels = batch(digits, 8)
    images.requires_grad_()
    assert (guard(images) + 0 * images.sum()).sum().requires_grad
    (hidden,) = torch.autograd.grad((guard(images) + 0 * images.sum()).sum(), images)
    assert not hidden.any()
    (shown,) = torch.autograd.grad(guard.surrogate(images)[range(8), labels].sum(), images)
    assert shown.isfinite().all()
    assert shown.flatten(1).any(1).all()


@pytest.mark.parametrize("name", GUARDS)
def test_features_are_those_of_the_classifier_behind_the_guard(
    digits: Dataset, clean_scenario: Scenario, name: str
) -> None:
    guard = guarded(clean_scenario, name)
    images, _ = batch(digits, 8)
    plain: Classifier = make_bench(digits).build(1)
    plain.load_state_dict(guard.state_dict())
    found, expected = guard.with_features(images), plain.eval().with_features(images)
    assert torch.allclose(found[0], expected[0], atol=1e-5)
    assert torch.allclose(found[1], expected[1], atol=1e-4)
