from __future__ import annotations

import math
from dataclasses import replace
from statistics import NormalDist

import pytest
import torch
from torch import nn

from safedl.catalog.defenses.evasion import RandomizedSmoothingParams
from safedl.data.imageset import Dataset
from safedl.defenses.contract import Scenario
from safedl.defenses.randomized_smoothing import SmoothedClassifier, certified_radius, guard, noisy_objective
from safedl.models.classifier import Classifier
from tests.defenses.evasion import accuracy, batch, same_weights

NORMAL = NormalDist()


def params(**changed: object) -> RandomizedSmoothingParams:
    return RandomizedSmoothingParams.model_validate({"num_samples": 50, "eot_samples": 4, **changed})


def plane(side: int = 4) -> Classifier:
    """Return a classifier that tells on which side of a plane through the middle of the cube an image lies."""
    normal = torch.randn(side * side, generator=torch.Generator().manual_seed(0))
    normal /= normal.norm()
    linear = nn.Linear(side * side, 2)
    with torch.no_grad():
        linear.weight.copy_(torch.stack([-normal, normal]))
        linear.bias.copy_(torch.tensor([1.0, -1.0]) * normal.sum() / 2)
    return Classifier(nn.Sequential(nn.Flatten(), linear), [0.0], [1.0], (1, side, side)).eval()


def at_distance(model: Classifier, distances: torch.Tensor) -> torch.Tensor:
    """Return images at these distances from the plane, on the side of class 1."""
    weight = next(model.net.parameters())
    return 0.5 + distances.view(-1, 1, 1, 1) * weight[1].detach().view(1, *model.shape)


def test_radius_is_the_distance_to_a_plane_within_sampling_error() -> None:
    model, sigma, samples = plane(), 0.25, 4000
    distances = torch.linspace(0.1, 0.4, 40)
    smoothed = SmoothedClassifier(model, params(sigma=sigma, certify_samples=samples, alpha=0.001))
    radii = smoothed.certified_radii(at_distance(model, distances), torch.ones(40, dtype=torch.int64))
    # Each certificate may be wrong with probability 0.001; three wrong ones of 40 come once in 100,000 times.
    assert int((radii > distances + 1e-6).sum()) <= 2
    for radius, distance in zip(radii.tolist(), distances.tolist(), strict=True):
        p = NORMAL.cdf(distance / sigma)
        least = p - 8 * (p * (1 - p) / samples) ** 0.5
        assert radius >= sigma * NORMAL.inv_cdf(least)


def test_no_certificate_for_wrong_or_undecided_answers() -> None:
    model = plane()
    images = at_distance(model, torch.tensor([0.3, 0.3, 0.0]))
    smoothed = SmoothedClassifier(model, params(certify_samples=500))
    radii = smoothed.certified_radii(images, torch.tensor([1, 0, 1]))
    assert radii[0] > 0.1
    assert radii[1:].tolist() == [-1.0, -1.0]


def test_no_noise_is_used_twice_for_certificates() -> None:
    model, asked = plane(), []
    smoothed = SmoothedClassifier(model, params(num_samples=200, certify_samples=300))
    hook = smoothed.net.register_forward_pre_hook(lambda _m, inputs: asked.append(inputs[0].flatten(1)))
    smoothed.certified_radii(at_distance(model, torch.tensor([0.1, 0.1])), torch.ones(2, dtype=torch.int64))
    hook.remove()
    copies = torch.cat(asked)
    assert len(copies) == len(copies.unique(dim=0)) == 2 * (200 + 300)


def test_every_copy_of_the_vote_has_noise_of_its_own_the_same_for_all_images() -> None:
    model, asked = plane(), []
    smoothed = SmoothedClassifier(model, params(num_samples=150))
    hook = smoothed.net.register_forward_pre_hook(lambda _m, inputs: asked.append(inputs[0].flatten(1)))
    images = at_distance(model, torch.tensor([0.1, 0.3]))
    smoothed(images)
    hook.remove()
    noise = torch.cat(asked).view(150, 2, -1) - images.flatten(1)
    assert len(noise[:, 0].unique(dim=0)) == 150
    assert torch.allclose(noise[:, 0], noise[:, 1], atol=1e-6)


def test_clopper_pearson_in_closed_form() -> None:
    # All of n votes: the bound is alpha^(1/n).
    assert certified_radius(100, 100, 0.5, 0.001) == pytest.approx(0.5 * NORMAL.inv_cdf(0.001 ** (1 / 100)))
    assert certified_radius(0, 100, 0.5, 0.001) == -1.0
    assert certified_radius(50, 100, 0.5, 0.001) == -1.0
    # The chance of 80 or more of 100 at the bound is alpha.
    p = NORMAL.cdf(certified_radius(80, 100, 1.0, 0.01))
    tail = sum(math.comb(100, k) * p**k * (1 - p) ** (100 - k) for k in range(80, 101))
    assert tail == pytest.approx(0.01, rel=1e-6)


def test_votes_approach_the_probability_under_noise() -> None:
    model, distance = plane(), 0.2
    smoothed = SmoothedClassifier(model, params(num_samples=4000))
    share = float(smoothed(at_distance(model, torch.tensor([distance]))).exp()[0, 1])
    p = NORMAL.cdf(distance / 0.25)
    assert share == pytest.approx(p, abs=5 * (p * (1 - p) / 4000) ** 0.5)


def test_digits_are_recognised_and_certified(digits: Dataset, clean_scenario: Scenario) -> None:
    smoothed = guard(clean_scenario, params(num_samples=20, certify_samples=300))
    assert accuracy(digits, smoothed) >= 0.9
    images, labels = batch(digits, 15)
    radii = smoothed.certified_radii(images, labels)
    assert (radii > 0.1).float().mean() > 0.6
    copy = smoothed.clone()
    assert isinstance(copy, SmoothedClassifier)
    again = copy.certified_radii(images[:3], labels[:3])
    assert torch.equal(radii[:3], again)


def test_each_call_of_the_surrogate_has_new_noise_and_copies_draw_alike(
    digits: Dataset, clean_model: Classifier
) -> None:
    smoothed = SmoothedClassifier(clean_model, params())
    images, _ = batch(digits, 8)
    copy = smoothed.clone()
    first, second = smoothed.surrogate(images), smoothed.surrogate(images)
    assert not torch.allclose(first, second)
    assert torch.equal(copy.surrogate(images), first)
    assert torch.equal(copy.surrogate(images), second)
    assert torch.allclose(first.exp().sum(1), torch.ones(8), atol=1e-5)


def test_gradient_is_that_of_the_mean_over_copies(digits: Dataset, clean_model: Classifier) -> None:
    images, labels = batch(digits, 8)
    smoothed = SmoothedClassifier(clean_model, params(sigma=1e-6, eot_samples=3))
    images.requires_grad_()
    (found,) = torch.autograd.grad(smoothed.surrogate(images)[range(8), labels].sum(), images)
    (plain,) = torch.autograd.grad(smoothed.classify(images).log_softmax(1)[range(8), labels].sum(), images)
    assert torch.allclose(found, plain, atol=1e-3 * float(plain.abs().max()))


def test_training_adds_noise_and_leaves_the_images(digits: Dataset, clean_scenario: Scenario) -> None:
    images, labels = batch(digits, 8)
    kept = images.clone()
    model = clean_scenario.model
    logits, _ = noisy_objective(model, images, labels, torch.Generator().manual_seed(0), 0.5)
    assert torch.equal(images, kept)
    assert not torch.allclose(logits, model(images), atol=0.1)
    scene = replace(clean_scenario, data=clean_scenario.data.select(torch.arange(100)))
    first, second, other = (guard(scene, params(sigma=sigma)) for sigma in (0.25, 0.25, 0.5))
    assert same_weights(first, second)
    assert not same_weights(first, other)
