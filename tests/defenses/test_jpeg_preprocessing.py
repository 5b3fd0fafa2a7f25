from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from safedl.catalog.defenses.evasion import JpegPreprocessingParams
from safedl.data.imageset import Dataset
from safedl.defenses.contract import Scenario
from safedl.defenses.jpeg_preprocessing import compress, guard
from safedl.errors import UsageError
from safedl.models.classifier import Classifier
from tests.defenses.evasion import accuracy, batch


def flat(channels: int) -> Classifier:
    net = nn.Sequential(nn.Flatten(), nn.Linear(channels * 64, 5))
    return Classifier(net, [0.0] * channels, [1.0] * channels, (channels, 8, 8))


def test_the_surrogate_has_the_value_of_forward_and_the_gradient_behind_compression(
    digits: Dataset, clean_scenario: Scenario
) -> None:
    guarded = guard(clean_scenario, JpegPreprocessingParams(quality=50))
    images, labels = batch(digits, 16)
    assert torch.allclose(guarded.surrogate(images), guarded(images), atol=1e-4)
    compressed = compress(images, 50).requires_grad_()
    (behind,) = torch.autograd.grad(guarded.classify(compressed)[range(16), labels].sum(), compressed)
    images.requires_grad_()
    (through,) = torch.autograd.grad(guarded.surrogate(images)[range(16), labels].sum(), images)
    assert torch.allclose(through, behind, atol=1e-4)


def test_good_quality_changes_little_and_poor_quality_much(digits: Dataset) -> None:
    images, _ = batch(digits)
    best, worst = ((compress(images, quality) - images).abs().mean() for quality in (100, 1))
    assert best < 0.005
    assert worst > 0.1


@pytest.mark.parametrize("channels", [1, 3])
def test_grey_and_colour_images_come_back_as_they_were(channels: int) -> None:
    ramp = torch.linspace(0, 1, 32).expand(2, channels, 32, 32).contiguous(memory_format=torch.channels_last)
    made = compress(ramp, 95)
    assert made.shape == ramp.shape
    assert made.dtype == torch.float32
    assert made.min() >= 0 and made.max() <= 1
    assert (made - ramp).abs().max() < 0.03


def test_other_channels_are_refused(clean_scenario: Scenario) -> None:
    assert guard(replace(clean_scenario, model=flat(3)), JpegPreprocessingParams()).shape == (3, 8, 8)
    with pytest.raises(UsageError, match="1 or 3 channels, these have 2"):
        guard(replace(clean_scenario, model=flat(2)), JpegPreprocessingParams())


def test_clean_accuracy_stays(digits: Dataset, clean_scenario: Scenario, clean_model: Classifier) -> None:
    guarded = guard(clean_scenario, JpegPreprocessingParams(quality=90))
    assert accuracy(digits, guarded) >= accuracy(digits, clean_model) - 0.03
