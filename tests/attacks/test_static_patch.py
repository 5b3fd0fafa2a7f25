from __future__ import annotations

from typing import Any

import pytest
import torch

from safedl.attacks.backdoor.static_patch import make_trigger, patch_side, poison
from safedl.attacks.contract import Poisoning
from safedl.catalog.attacks.backdoor import StaticPatchParams
from safedl.data.imageset import Dataset, ImageSet
from safedl.errors import UsageError
from safedl.evaluation.metrics import evaluate
from safedl.training.workbench import Workbench
from tests.attacks.helpers import make_context, random_images


def _plant(data: ImageSet, seed: int = 0, **params: Any) -> Poisoning:
    return poison(data, StaticPatchParams.model_validate(params), make_context(seed))


@pytest.mark.parametrize(
    ("height", "width", "ratio", "side"),
    [(8, 8, 0.15, 2), (28, 28, 0.15, 4), (32, 32, 0.15, 5), (32, 64, 0.5, 16), (8, 8, 1.0, 8), (1, 5, 0.5, 1)],
)
def test_side_of_the_patch(height: int, width: int, ratio: float, side: int) -> None:
    assert patch_side(height, width, ratio) == side


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    ("position", "rows", "columns"),
    [
        ("bottom_right", (6, 8), (4, 6)),
        ("bottom_left", (6, 8), (0, 2)),
        ("top_right", (0, 2), (4, 6)),
        ("top_left", (0, 2), (0, 2)),
        ("center", (3, 5), (2, 4)),
    ],
)
def test_a_white_square_covers_exactly_its_place(
    channels: int, position: str, rows: tuple[int, int], columns: tuple[int, int]
) -> None:
    params = StaticPatchParams.model_validate({"patch_position": position, "patch_size_ratio": 0.3})
    trigger = make_trigger((channels, 8, 6), params, torch.Generator())
    image = random_images(1, (channels, 8, 6)).images
    expected = image.clone()
    expected[:, :, rows[0] : rows[1], columns[0] : columns[1]] = 255
    assert torch.equal(trigger.apply(image), expected)


def test_a_checkerboard_alternates() -> None:
    params = StaticPatchParams(patch_type="checkerboard", patch_position="top_left", patch_size_ratio=0.5)
    shown = make_trigger((1, 6, 6), params, torch.Generator()).apply(torch.full((1, 1, 6, 6), 7, dtype=torch.uint8))
    assert shown[0, 0, :3, :3].tolist() == [[255, 0, 255], [0, 255, 0], [255, 0, 255]]
    assert (shown[0, 0, 3:] == 7).all()


def test_random_noise_depends_on_the_seed_alone() -> None:
    data = random_images(50)
    first, again, other = (_plant(data, s, patch_type="random_noise").trigger for s in (1, 1, 2))
    assert first is not None and again is not None and other is not None
    assert torch.equal(first.pattern, again.pattern)
    assert not torch.equal(first.pattern, other.pattern)


def test_blending_mixes_patch_and_image() -> None:
    trigger = make_trigger((1, 8, 8), StaticPatchParams(blend_alpha=0.2), torch.Generator())
    shown = trigger.apply(torch.full((1, 1, 8, 8), 100, dtype=torch.uint8))
    assert (shown[0, 0, 6:, 6:] == 131).all()  # 0.8 * 100 + 0.2 * 255
    assert int((shown != 100).sum()) == 4
    assert (trigger.apply(torch.full((1, 1, 8, 8), 101, dtype=torch.uint8))[0, 0, 6:, 6:] == 132).all()  # 131.8


def test_corrupted_labels_exclude_the_target_class() -> None:
    data = random_images(1000)
    before = data.images.clone()
    result = _plant(data, poison_fraction=0.1, target_class=6)
    assert int(result.mask.sum()) == 100
    assert not (data.labels[result.mask] == 6).any()
    assert (result.data.labels[result.mask] == 6).all()
    assert torch.equal(result.data.labels[~result.mask], data.labels[~result.mask])
    assert (result.data.images[result.mask][:, :, 6:, 6:] == 255).all()
    assert torch.equal(result.data.images[~result.mask], before[~result.mask])
    assert torch.equal(data.images, before)


def test_clean_labels_poison_the_target_class_alone() -> None:
    data = random_images(1000)
    result = _plant(data, poison_fraction=0.05, target_class=6, label_mode="clean")
    assert int(result.mask.sum()) == 50
    assert (data.labels[result.mask] == 6).all()
    assert torch.equal(result.data.labels, data.labels)
    assert result.details["poison_rate"] == 0.05  # of all images, not of those of the class


def test_a_fraction_above_what_is_eligible_poisons_all_of_it_and_says_so() -> None:
    result = _plant(random_images(1000), poison_fraction=0.3, target_class=6, label_mode="clean")
    assert int(result.mask.sum()) == 100
    assert result.details["num_requested"] == 300
    assert result.details["num_poisoned_samples"] == 100


def test_rate_0_has_a_trigger_and_no_poison() -> None:
    data = random_images(100)
    result = _plant(data, poison_fraction=0)
    assert not result.mask.any()
    assert torch.equal(result.data.images, data.images)
    assert result.trigger is not None
    assert result.details["trigger_pixels"] == 4


def test_impossible_targets_are_refused() -> None:
    with pytest.raises(UsageError, match=r"static_patch\.target_class: class 99"):
        _plant(random_images(100), target_class=99)
    with pytest.raises(UsageError, match="no image of class 9"):
        _plant(random_images(90, num_classes=9), target_class=9, label_mode="clean")


def test_the_backdoor_is_learned(digits: Dataset, bench: Workbench) -> None:
    result = _plant(digits.train, target_class=0)
    attacked = evaluate(bench.fit(result.data, epochs=8), digits.test, result, bench, digits.classes)
    assert attacked["asr"] > 0.9
    assert attacked["clean_accuracy"] > 0.96
    assert "asr.0" not in attacked
