from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from safedl.attacks.contract import Poisoning
from safedl.attacks.poisoning.clean_label import poison
from safedl.catalog.attacks.poisoning import CleanLabelParams
from safedl.data.imageset import Dataset, ImageSet
from safedl.errors import UsageError
from safedl.models.classifier import Classifier
from safedl.training.workbench import Workbench
from tests.attacks.helpers import make_context, pixel_classifier, random_images

METHODS = ["overlay", "noise", "feature_collision"]


def _poison(data: ImageSet, model: Classifier | None = None, seed: int = 0, **params: Any) -> Poisoning:
    channels, height, width = data.images.shape[1:]
    context = make_context(seed, clean_model=model or pixel_classifier((channels, height, width)))
    return poison(data, CleanLabelParams.model_validate(params), context)


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 5, 7)])
@pytest.mark.parametrize("method", METHODS)
def test_some_images_of_the_class_change_and_no_label(method: str, shape: tuple[int, int, int]) -> None:
    data = random_images(500, shape)
    before = data.images.clone()
    params: dict[str, Any] = {
        "perturbation_method": method,
        "target_class": 4,
        "fraction_poison": 0.5,
        "max_iterations": 5,
    }
    result = _poison(data, **params)
    changed = (result.data.images != before).flatten(1).any(1)
    assert torch.equal(changed, result.mask)
    assert int(changed.sum()) == 25 == result.details["num_poisoned_samples"]
    assert (data.labels[changed] == 4).all()
    assert torch.equal(result.data.labels, data.labels)
    assert torch.equal(data.images, before)
    assert torch.equal(result.data.images, _poison(data, **params).data.images)


@pytest.mark.parametrize("method", ["noise", "feature_collision"])
@pytest.mark.parametrize("epsilon", [0.1, 8 / 255, 1 / 255, 0.0])
def test_no_pixel_leaves_the_budget(method: str, epsilon: float) -> None:
    data = random_images(100)
    result = _poison(data, perturbation_method=method, epsilon=epsilon, fraction_poison=1.0, max_iterations=20)
    change = (result.data.images.int() - data.images.int()).abs().max()
    assert float(change) <= epsilon * 255
    assert float(change) == math.floor(epsilon * 255 + 1e-6)


def test_a_budget_of_one_level_is_spent() -> None:
    data = random_images(100)
    result = _poison(data, perturbation_method="feature_collision", epsilon=1 / 255, fraction_poison=1.0)
    changed = result.data.images != data.images
    free = (data.images > 0) & (data.images < 255)
    assert float(changed[free].float().mean()) > 0.9


def test_untargeted_takes_its_share_of_all_classes() -> None:
    result = _poison(random_images(1000), perturbation_method="noise", fraction_poison=0.3)
    assert int(result.mask.sum()) == 300
    assert len(result.original_labels[result.mask].unique()) == 10
    assert result.target_class is None


def test_overlay_blends_in_an_image_of_another_class() -> None:
    data = random_images(60, num_classes=3)
    result = _poison(data, perturbation_method="overlay", target_class=1, fraction_poison=1.0, epsilon=0.25)
    (anchor,) = (int(c) for c in result.details["expected_confusion"])
    assert anchor != 1
    others = data.images[data.labels == anchor].float()
    for place in result.mask.nonzero().flatten().tolist():
        blends = (0.75 * data.images[place].float() + 0.25 * others).round()
        distance = (blends - result.data.images[place].float()).abs().flatten(1).max(1).values
        assert float(distance.min()) <= 1


def test_each_class_collides_with_another_one() -> None:
    confusion = _poison(random_images(200), perturbation_method="overlay", fraction_poison=1.0).details[
        "expected_confusion"
    ]
    assert sorted(confusion.values()) == list(range(10)) == sorted(int(c) for c in confusion)
    assert not any(int(anchor) == label for anchor, label in confusion.items())


def test_collision_reaches_the_nearest_point_of_the_budget() -> None:
    """Where the features are the pixels, the best change is the way to the anchor, cut off at epsilon."""
    data = random_images(20, num_classes=2)
    images = data.images.clone()
    images[data.labels == 1] = images[1].clone()  # one anchor for all
    result = _poison(
        ImageSet(images, data.labels), perturbation_method="feature_collision", target_class=0, fraction_poison=1.0,
        epsilon=0.2, max_iterations=100,
    )  # fmt: skip
    start, anchor = images[result.mask].float(), images[1].float()
    expected = start + (anchor - start).clamp(-51, 51)
    assert (result.data.images[result.mask].float() - expected).abs().max() <= 3
    assert result.details["feature_distance_after"] < result.details["feature_distance_before"]


@pytest.mark.parametrize(("selection", "descending"), [("most_confident", False), ("least_confident", True)])
def test_selection_by_confidence(selection: str, descending: bool) -> None:
    weight = torch.zeros(10, 64)
    weight[5], weight[4] = 0.1, 0.2  # the brighter, the surer of class 4, and so the less of their own class, 5
    data, model = random_images(100), pixel_classifier(weight=weight)
    params: dict[str, Any] = {
        "source_selection": selection,
        "target_class": 5,
        "fraction_poison": 0.3,
        "perturbation_method": "noise",
    }
    result = _poison(data, model, **params)
    members = (data.labels == 5).nonzero().flatten().tolist()
    ranked = sorted(members, key=lambda i: int(data.images[i].sum()), reverse=descending)
    assert sorted(ranked[:3]) == result.mask.nonzero().flatten().tolist()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("selection", ["random", "most_confident"])
def test_rate_0_changes_nothing(method: str, selection: str) -> None:
    data = random_images(50)
    result = _poison(data, perturbation_method=method, source_selection=selection, fraction_poison=0)
    assert not result.mask.any()
    assert torch.equal(result.data.images, data.images)


def test_impossible_classes_are_refused() -> None:
    with pytest.raises(UsageError, match=r"clean_label\.target_class: class 10"):
        _poison(random_images(50), target_class=10)
    with pytest.raises(UsageError, match="no image of class 9"):
        _poison(random_images(90, num_classes=9), target_class=9)


def test_a_class_whose_images_all_collide_is_no_longer_known(
    digits: Dataset, bench: Workbench, clean_model: Classifier
) -> None:
    params: dict[str, Any] = {"target_class": 3, "fraction_poison": 1.0, "epsilon": 0.3, "max_iterations": 20}
    result = _poison(digits.train, clean_model, **params)
    assert result.details["taken_for_anchor_by_clean_model"] > 0.5
    model = bench.fit(result.data, epochs=6)
    right = bench.predict(model, digits.test.images).argmax(1) == digits.test.labels
    assert right[digits.test.labels == 3].float().mean() < 0.5
    assert right[digits.test.labels != 3].float().mean() > 0.9


def test_noise_is_even_within_the_budget() -> None:
    data = random_images(100)
    data.images.clamp_(60, 190)
    result = _poison(data, perturbation_method="noise", epsilon=0.2, fraction_poison=1.0)
    change = (result.data.images.float() - data.images.float()) / 51
    assert float(change.mean()) == pytest.approx(0, abs=0.03)
    assert float((change.abs() < 0.5).float().mean()) == pytest.approx(0.5, abs=0.03)


@pytest.mark.parametrize(("epsilon", "taken"), [(0.0, 0.0), (1.0, 1.0)])
def test_what_the_clean_model_takes_for_the_anchor_are_the_altered_images(epsilon: float, taken: float) -> None:
    weight = torch.zeros(10, 64)
    weight[0, 0], weight[1, 1] = 1.0, 1.0
    data = random_images(40, num_classes=2)
    data.images[:, :, 0, :2] = torch.where(torch.eye(2)[data.labels] == 1, 255, 0)[:, None].to(torch.uint8)
    result = _poison(
        data, pixel_classifier(weight=weight), perturbation_method="overlay", target_class=0, fraction_poison=1.0,
        epsilon=epsilon,
    )  # fmt: skip
    assert result.details["taken_for_anchor_by_clean_model"] == taken
