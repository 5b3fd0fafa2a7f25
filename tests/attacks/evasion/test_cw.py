from __future__ import annotations

import pytest
import torch

from safedl.attacks.evasion import cw
from safedl.attacks.evasion.gradient import margin
from safedl.catalog.attacks.evasion import CwParams
from safedl.progress import Cancelled, Progress
from tests.attacks.evasion.helpers import StopAt, context, distance, fickle, linear


def test_reaches_the_closed_form_distance_of_a_linear_classifier() -> None:
    case = linear(classes=2)
    params = CwParams(max_iterations=400, binary_search_steps=6, learning_rate=0.002)
    found = cw.perturb(case.model, case.images, case.labels, params, context())
    assert (case.model(found.images).argmax(1) != case.labels).all()
    far = case.distances() > 0.02  # nearer boundaries are overshot by a single step of Adam
    assert far.sum() > len(far) / 2
    ratio = (distance(found.images, case.images) / case.distances())[far]
    assert ratio.min() > 1 - 1e-4
    assert ratio.max() < 1.05


def test_confidence_is_the_margin_by_which_the_wrong_class_wins() -> None:
    case = linear()
    params = CwParams(confidence=0.5, binary_search_steps=5, max_iterations=200)
    found = cw.perturb(case.model, case.images, case.labels, params, context())
    assert (margin(case.model(found.images), case.labels) <= -0.5 + 1e-4).all()


def test_farther_than_epsilon_the_original_is_kept() -> None:
    case = linear()
    params = CwParams(max_iterations=200, binary_search_steps=5)
    free = distance(cw.perturb(case.model, case.images, case.labels, params, context()).images, case.images)
    epsilon = float(free.median())
    bound = params.model_copy(update={"epsilon": epsilon})
    found = cw.perturb(case.model, case.images, case.labels, bound, context())
    kept = distance(found.images, case.images) == 0
    assert torch.equal(kept, free > epsilon)
    assert 0 < kept.sum() < len(kept)


@pytest.mark.parametrize("confidence", [0.0, 1.0])
def test_the_weight_that_a_linear_classifier_needs(confidence: float) -> None:
    case = linear(classes=2)
    needed = cw.linear_weight(case.model, case.images, case.labels, confidence)
    params = CwParams(max_iterations=300, learning_rate=0.002, confidence=confidence)
    far = case.distances() > 0.05  # of which a single step of Adam is a small part
    assert far.sum() >= 3
    for share, expected in ((0.5, False), (1.2, True)):
        _, length, _ = cw._minimise(case.model, case.images, case.labels, share * needed, params, Progress())
        assert (length.isfinite() == expected)[far].all()


def test_the_nearest_misclassified_image_met_is_returned() -> None:
    case = linear(classes=2)
    image, label = case.images[:1], case.labels[:1]
    asked: list[torch.Tensor] = []
    hook = case.model.register_forward_pre_hook(lambda _m, inputs: asked.append(inputs[0].detach().clone()))
    params = CwParams(max_iterations=60, binary_search_steps=1, initial_const=1e3, learning_rate=0.01)
    found = cw.perturb(case.model, image, label, params, context())
    hook.remove()
    met = torch.cat(asked)
    lengths = distance(met, image)[case.model(met).argmax(1) != label]
    assert len(lengths) > 1
    assert float(distance(found.images, image)) == pytest.approx(float(lengths.min()))


def test_an_error_of_a_random_surrogate_is_checked_with_the_model() -> None:
    case = fickle()
    params = CwParams(max_iterations=5, binary_search_steps=1, initial_const=10.0, learning_rate=1e-4)
    found = cw.perturb(case.model, case.images, case.labels, params, context())
    assert torch.equal(found.images, case.images)


def test_a_weight_that_may_do_is_tried() -> None:
    case = linear(classes=2)
    far = case.distances() > 0.05
    images, labels = case.images[far], case.labels[far]
    needed = float(cw.linear_weight(case.model, images, labels, 0.0).max())
    params = CwParams(initial_const=1.2 * needed, binary_search_steps=1, learning_rate=0.002)
    found = cw.perturb(case.model, images, labels, params, context())
    assert (case.model(found.images).argmax(1) != labels).all()


def test_hopeless_weights_are_not_tried() -> None:
    case = linear()
    params = CwParams(initial_const=1e-9, binary_search_steps=3)
    found = cw.perturb(case.model, case.images, case.labels, params, context())
    assert torch.equal(found.images, case.images)
    assert found.queries.tolist() == [1] * len(case.images)


def test_stops_when_asked() -> None:
    case = linear()
    with pytest.raises(Cancelled):
        cw.perturb(case.model, case.images, case.labels, CwParams(), context(progress=StopAt(5)))
