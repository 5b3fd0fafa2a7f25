from __future__ import annotations

import torch

from safedl.attacks.evasion import square
from safedl.attacks.evasion.gradient import margin
from safedl.catalog.attacks.evasion import SquareParams
from safedl.models.classifier import Classifier
from tests.attacks.evasion.helpers import context, linear


def test_every_pixel_is_at_the_edge_of_the_budget_or_of_the_range(
    clean_model: Classifier, digits_batch: tuple[torch.Tensor, ...]
) -> None:
    images, labels = digits_batch
    found = square.perturb(clean_model, images, labels, SquareParams(epsilon=0.1, num_queries=60), context())
    low, high = (images - 0.1).clamp(0, 1), (images + 0.1).clamp(0, 1)
    off = torch.minimum((found.images - low).abs(), (found.images - high).abs())
    assert off.max() < 1e-6


def test_squares_shrink_as_the_paper_says() -> None:
    sides = [square.square_side(done / 10_000, 0.8, 28, 28) for done in (1, 11, 51, 201, 501, 1001, 2001, 4001)]
    assert sides == [25, 18, 13, 9, 6, 4, 3, 2]
    assert square.square_side(0.99, 0.8, 28, 28) == 1
    assert square.square_side(0.0, 1.0, 5, 5) == 4
    assert square.square_side(0.0, 1.0, 1, 1) == 1


def test_squares_are_squares_of_the_side_anywhere() -> None:
    found = square._squares(400, 3, 6, 8, torch.Generator().manual_seed(0))
    assert (found.flatten(1).sum(1) == 9).all()
    assert (found.any(3).sum(2) == 3).all()
    assert found.any(0).all()  # the corners are reached


def test_questions_are_counted_and_a_wide_budget_suffices() -> None:
    case = linear(count=20)
    asked: list[int] = []
    hook = case.model.register_forward_pre_hook(lambda _m, inputs: asked.append(len(inputs[0])))
    found = square.perturb(case.model, case.images, case.labels, SquareParams(epsilon=0.2, num_queries=300), context())
    hook.remove()
    assert int(found.queries.sum()) == sum(asked)
    assert (case.model(found.images).argmax(1) != case.labels).float().mean() > 0.9
    nothing = square.perturb(case.model, case.images, case.labels, SquareParams(epsilon=0, num_queries=7), context())
    assert set(nothing.queries.tolist()) == {7}


def test_the_start_are_vertical_stripes() -> None:
    case = linear(count=6, shape=(3, 6, 5))
    found = square.perturb(case.model, case.images, case.labels, SquareParams(epsilon=0.05, num_queries=1), context())
    change = found.images - case.images
    assert torch.allclose(change, change[:, :, :1].expand_as(change), atol=1e-6)
    assert (change[..., 1:] != change[..., :-1]).any()


def test_no_square_that_raises_the_margin_stays() -> None:
    case = linear(count=20)
    found = [
        square.perturb(case.model, case.images, case.labels, SquareParams(epsilon=0.02, num_queries=n), context())
        for n in (1, 2, 5, 20, 80)
    ]
    leads = torch.stack([margin(case.model(result.images), case.labels) for result in found])
    through = leads < 0
    assert (leads[1:] <= leads[:1] + 1e-6)[~through[:1].expand(4, 20)].all()
    assert leads.mean(1).tolist() == sorted(leads.mean(1).tolist(), reverse=True)
