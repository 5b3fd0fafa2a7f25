from __future__ import annotations

import pytest
import torch
from torch import Tensor

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


def _one_by_one(model: Classifier, image: Tensor, label: int, overshoot: float) -> Tensor:
    """Return what the paper's own code makes of an image [1, C, H, W], as it is written there."""
    total, made = torch.zeros_like(image), image
    while int(model(made).argmax()) == label:
        at = made.clone().requires_grad_()
        logits = model(at)[0]
        slopes = [torch.autograd.grad(logit, at, retain_graph=True)[0] for logit in logits]
        steps = []
        for other in range(10):
            if other != label:
                normal, gap = slopes[other] - slopes[label], float((logits[other] - logits[label]).detach())
                length = abs(gap) / float(normal.norm())
                steps.append((length, (length + 1e-4) * normal / normal.norm()))
        total = total + min(steps, key=lambda step: step[0])[1]
        made = (image + (1 + overshoot) * total).clamp(0, 1)
    return made


def test_it_goes_the_way_of_the_papers_code(clean_model: Classifier, digits_batch: tuple[Tensor, ...]) -> None:
    images, labels = (part[:8] for part in digits_batch)
    found = deepfool.perturb(clean_model, images, labels, DeepfoolParams(overshoot=0.1), context(num_classes=10))
    assert found.queries.max() > 2  # more than one step
    slow = [_one_by_one(clean_model, images[i : i + 1], int(labels[i]), 0.1) for i in range(8)]
    assert torch.allclose(found.images, torch.cat(slow), atol=1e-4)
