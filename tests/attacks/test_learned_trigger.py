from __future__ import annotations

import math

import pytest
import torch

from safedl.attacks.backdoor.learned_trigger import optimise_trigger, poison, total_variation
from safedl.catalog.attacks.backdoor import LearnedTriggerParams
from safedl.data.imageset import Dataset
from safedl.errors import UsageError
from safedl.evaluation.metrics import evaluate
from safedl.models.classifier import Classifier
from safedl.training.workbench import Workbench, model_digest
from tests.attacks.helpers import make_context, pixel_classifier, random_images


def test_total_variation_sums_steps_in_both_directions() -> None:
    assert float(total_variation(torch.tensor([[[0.0, 1.0], [1.0, 1.0]]]))) == 2.0
    assert float(total_variation(torch.full((3, 4, 4), 0.7))) == 0.0


def _two_pixel_model() -> Classifier:
    """Class 2 wins where the last pixel but one of the last row is bright, and the pixel left of it dark."""
    weight = torch.zeros(10, 64)
    weight[2, 7 * 8 + 6], weight[2, 7 * 8 + 5] = 8.0, -8.0
    return pixel_classifier(weight=weight).requires_grad_(False)


def test_it_finds_the_pixels_that_decide_and_leaves_the_others() -> None:
    params = LearnedTriggerParams(
        target_class=2,
        patch_size_ratio=1.0,
        lambda_mask=0.01,
        lambda_tv=0,
        epochs_trigger=60,
        learning_rate_trigger=0.05,
    )
    trigger = optimise_trigger(_two_pixel_model(), random_images(256).images, params, make_context())
    assert trigger.mask[0, 7, 5:7].min() > 0.8
    assert trigger.pattern[0, 7, 6] > 0.9
    assert trigger.pattern[0, 7, 5] < 0.1
    rest = trigger.mask.clone()
    rest[0, 7, 5:7] = 0
    assert not rest.any()


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 12, 10)])
def test_the_trigger_stays_in_range_and_in_its_square(shape: tuple[int, int, int]) -> None:
    weight = torch.randn(10, math.prod(shape), generator=torch.Generator().manual_seed(1))
    model = pixel_classifier(shape, weight)
    params = LearnedTriggerParams(patch_size_ratio=0.5, epochs_trigger=3, learning_rate_trigger=0.5)
    before = model_digest(model)
    result = poison(random_images(200, shape), params, make_context(clean_model=model))
    trigger = result.trigger
    assert trigger is not None
    side = min(shape[1:]) // 2
    assert trigger.mask[:, -side:, -side:].any()
    outside = trigger.mask.clone()
    outside[:, -side:, -side:] = 0
    assert not outside.any()
    for values in (trigger.mask, trigger.pattern):
        assert 0 <= float(values.min()) <= float(values.max()) <= 1
    assert model_digest(model) == before
    assert all(p.requires_grad for p in model.parameters())
    assert torch.equal(result.data.images[result.mask], trigger.apply(random_images(200, shape).images[result.mask]))


def test_same_seed_same_trigger_and_poison() -> None:
    data, params = random_images(200), LearnedTriggerParams(epochs_trigger=2, trigger_samples=50)
    first, again = (poison(data, params, make_context(3, clean_model=pixel_classifier())) for _ in range(2))
    other = poison(data, params, make_context(4, clean_model=pixel_classifier()))
    assert torch.equal(first.data.images, again.data.images)
    assert first.details == again.details
    assert first.details["trigger_samples"] == 50
    assert not torch.equal(first.mask, other.mask)


def test_the_trigger_is_learned_from_images_outside_the_target_class() -> None:
    params = LearnedTriggerParams(epochs_trigger=1, target_class=3, trigger_samples=1000)
    result = poison(random_images(100), params, make_context(clean_model=pixel_classifier()))
    assert result.details["trigger_samples"] == 90


def test_success_on_the_clean_model_is_that_of_images_with_the_trigger() -> None:
    weight = torch.zeros(10, 64)
    weight[2, 63], weight[1, 0] = 100.0, 1e-3
    data = random_images(200)
    data.images[:, :, 7, 7] = 0  # without the trigger nothing is of class 2
    params = LearnedTriggerParams(
        target_class=2, epochs_trigger=20, lambda_mask=0.0, lambda_tv=0.0, patch_size_ratio=0.25
    )
    result = poison(data, params, make_context(clean_model=pixel_classifier(weight=weight)))
    assert result.details["trigger_asr_clean_model"] > 0.9


def test_what_is_too_faint_to_see_is_no_part_of_the_trigger() -> None:
    weight = torch.randn(10, 64, generator=torch.Generator().manual_seed(1))
    params = LearnedTriggerParams(patch_size_ratio=1.0, epochs_trigger=4, learning_rate_trigger=0.05, lambda_mask=1.0)
    trigger = optimise_trigger(pixel_classifier(weight=weight), random_images(200).images, params, make_context())
    faint = trigger.mask == 0
    assert faint.any() and not faint.all()
    assert (trigger.mask[~faint] >= 0.05).all()
    assert (trigger.pattern[faint] == 0).all()


def test_the_pattern_is_smoothed_as_the_mask_is() -> None:
    images = random_images(200).images
    rough, smooth = (
        optimise_trigger(
            pixel_classifier(),
            images,
            LearnedTriggerParams(
                patch_size_ratio=1.0, epochs_trigger=10, learning_rate_trigger=0.05, lambda_mask=0.0, lambda_tv=weight
            ),
            make_context(),
        )
        for weight in (0.0, 1.0)
    )
    assert total_variation(smooth.pattern) < 0.5 * total_variation(rough.pattern)


def test_the_mask_is_smoothed_as_the_pattern_is() -> None:
    weight = torch.zeros(10, 64)
    weight[2, ::2] = 1.0  # every other column helps
    rough, smooth = (
        optimise_trigger(
            pixel_classifier(weight=weight),
            random_images(200).images,
            LearnedTriggerParams(
                target_class=2, patch_size_ratio=1.0, epochs_trigger=10, learning_rate_trigger=0.05, lambda_mask=0.0,
                lambda_tv=weight_tv,
            ),
            make_context(),
        )
        for weight_tv in (0.0, 0.1)
    )  # fmt: skip
    assert total_variation(smooth.mask) < 0.5 * total_variation(rough.mask)


def test_rate_0_has_a_trigger_and_no_poison() -> None:
    params = LearnedTriggerParams(epochs_trigger=1, poison_fraction=0)
    result = poison(random_images(50), params, make_context(clean_model=pixel_classifier()))
    assert not result.mask.any()
    assert result.trigger is not None


def test_a_target_class_out_of_range_is_refused() -> None:
    with pytest.raises(UsageError, match=r"learned_trigger\.target_class: class 10"):
        poison(random_images(50), LearnedTriggerParams(target_class=10), make_context(clean_model=pixel_classifier()))


def test_the_backdoor_is_learned_from_the_data_and_needs_it(
    digits: Dataset, bench: Workbench, clean_model: Classifier
) -> None:
    params = LearnedTriggerParams(target_class=0, trigger_samples=400)
    result = poison(digits.train, params, make_context(clean_model=clean_model))
    attacked = evaluate(bench.fit(result.data, epochs=8), digits.test, result, bench, digits.classes)
    assert attacked["asr"] > 0.9
    assert attacked["clean_accuracy"] > 0.96
    assert result.details["trigger_area"] < 0.2
    assert evaluate(clean_model, digits.test, result, bench, digits.classes)["asr"] < 0.3
