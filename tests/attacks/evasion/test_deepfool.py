from __future__ import annotations

import pytest
import torch

from safedl.attacks.evasion import deepfool
from safedl.catalog.attacks.evasion import DeepfoolParams
from safedl.models.classifier import Classifier
from tests.attacks.evasion.helpers import context, distance, linear


@pytest.mark.parametrize("classes", [2, 5])
@pytest.mark.parametrize("overshoot", [0.02, 0.5])
def test_one_step_over_the_nearest_boundary_of_a_linear_classifier(classes: int, overshoot: float) -> None:
    case = linear(classes=classes)
    params = DeepfoolParams(overshoot=overshoot)
    found = deepfool.perturb(case.model, case.images, case.labels, params, context())
    assert (case.model(found.images).argmax(1) != case.labels).all()
    expected = (1 + overshoot) * (case.distances() + deepfool.PUSH)
    assert torch.allclose(distance(found.images, case.images), expected, rtol=1e-3, atol=1e-5)
    assert found.queries.tolist() == [2] * len(case.images)


def test_an_image_that_is_through_is_left_alone(
    clean_model: Classifier, digits_batch: tuple[torch.Tensor, ...]
) -> None:
    images, labels = digits_batch
    found = deepfool.perturb(clean_model, images, labels, DeepfoolParams(), context(num_classes=10))
    assert (clean_model(found.images).argmax(1) != labels).float().mean() > 0.95
    assert len(found.queries.unique()) > 1
    alone = deepfool.perturb(clean_model, images[:1], labels[:1], DeepfoolParams(), context(num_classes=10))
    assert torch.allclose(alone.images, found.images[:1], atol=1e-3)
    assert alone.queries[0] == found.queries[0]


def test_too_few_steps_and_too_far_leave_the_original(
    clean_model: Classifier, digits_batch: tuple[torch.Tensor, ...]
) -> None:
    images, labels = digits_batch
    short = deepfool.perturb(clean_model, images, labels, DeepfoolParams(max_iter=1), context(num_classes=10))
    holds = clean_model(short.images).argmax(1) == labels
    assert holds.any()
    assert torch.equal(short.images[holds], images[holds])
    near = deepfool.perturb(clean_model, images, labels, DeepfoolParams(epsilon=0.4), context(num_classes=10))
    assert distance(near.images, images).max() <= 0.4
    assert (distance(near.images, images) == 0).any()
