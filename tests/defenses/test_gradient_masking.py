from __future__ import annotations

import torch
from torch import Tensor

from safedl.attacks.evasion.gradient import loss_gradient
from safedl.catalog.defenses.evasion import GradientMaskingParams
from safedl.data.imageset import Dataset
from safedl.defenses.contract import Scenario
from safedl.defenses.gradient_masking import MaskedClassifier, guard, levels
from safedl.models.classifier import Classifier
from tests.defenses.evasion import accuracy, batch, pgd_accuracy


class Unaware(MaskedClassifier):
    """The guard under an attacker who differentiates it as it stands."""

    def surrogate(self, images: Tensor) -> Tensor:
        return self.forward(images)


def test_only_the_attacker_who_knows_gets_through(
    digits: Dataset, clean_scenario: Scenario, clean_model: Classifier
) -> None:
    masked = guard(clean_scenario, GradientMaskingParams())
    unaware = Unaware(clean_scenario.model, levels(0.5))
    images, labels = batch(digits)
    assert not loss_gradient(unaware, images, labels)[1].any()
    clean = accuracy(digits, masked)
    assert clean >= accuracy(digits, clean_model) - 0.02
    # A random start alone still costs a few images.
    assert pgd_accuracy(digits, unaware, 0.2) >= clean - 0.1
    assert pgd_accuracy(digits, masked, 0.2) <= pgd_accuracy(digits, clean_model, 0.2) + 0.1 < clean - 0.3


def test_saturation_alone_leaves_classes_as_they_are_and_no_gradient_where_they_are_right(
    digits: Dataset, clean_scenario: Scenario
) -> None:
    masked = guard(clean_scenario, GradientMaskingParams())
    images, labels = batch(digits)
    steps = masked.details["levels"] - 1
    plain = masked.classify((images * steps).round() / steps)
    assert torch.equal(masked(images).argmax(1), plain.argmax(1))
    assert torch.allclose(masked.surrogate(images), plain, atol=1e-4)
    right = plain.argmax(1) == labels
    top = plain.topk(2).values
    clear = right & (top[:, 0] - top[:, 1] > 0.01)
    assert clear.sum() > 50
    pull = masked(images).softmax(1) - torch.eye(10)[labels]
    assert not pull[clear].any()


def test_strength_halves_the_levels() -> None:
    assert [levels(s) for s in (1e-9, 1 / 7, 0.5, 1.0)] == [256, 128, 23, 2]


def test_pixels_take_so_many_values(clean_scenario: Scenario) -> None:
    masked = guard(clean_scenario, GradientMaskingParams(strength=1.0))
    assert masked.details["levels"] == 2
    ramp = torch.linspace(0, 1, 64).view(1, 1, 8, 8)
    assert torch.allclose(masked(ramp), masked.classify(ramp.round()) * masked.details["logit_factor"])
