from __future__ import annotations

import pytest
import torch

from safedl.attacks.evasion import fgsm, pgd
from safedl.attacks.evasion.gradient import margin
from safedl.catalog.attacks.evasion import FgsmParams, PgdParams
from tests.attacks.evasion.helpers import context, fickle, linear

EPSILON = 0.1


def test_fgsm_lowers_a_linear_margin_by_epsilon_times_the_l1_norm_of_its_gradient() -> None:
    case = linear(classes=2)
    found = fgsm.perturb(case.model, case.images, case.labels, FgsmParams(epsilon=EPSILON), context())
    fall = margin(case.logits(), case.labels) - margin(case.model(found.images), case.labels)
    slope = (case.weight[0] - case.weight[1]).abs().sum()
    assert torch.allclose(fall, EPSILON * slope.expand(len(fall)), atol=1e-4)
    assert found.queries.tolist() == [1] * len(case.images)


@pytest.mark.parametrize("random_start", [True, False])
def test_pgd_on_a_linear_model_ends_where_fgsm_does(random_start: bool) -> None:
    case = linear(classes=2)
    one = fgsm.perturb(case.model, case.images, case.labels, FgsmParams(epsilon=0.001), context())
    params = PgdParams(epsilon=0.001, alpha=0.0005, num_iter=8, random_start=random_start)
    many = pgd.perturb(case.model, case.images, case.labels, params, context())
    holds = case.model(many.images).argmax(1) == case.labels  # what errs is left alone before it gets to the corner
    assert holds.sum() > len(holds) / 2
    assert torch.allclose(many.images[holds], one.images[holds], atol=1e-6)


def test_pgd_leaves_an_image_alone_as_soon_as_it_errs() -> None:
    case = linear(classes=2)
    params = PgdParams(epsilon=EPSILON, alpha=0.002, num_iter=60, random_start=False)
    found = pgd.perturb(case.model, case.images, case.labels, params, context())
    change = (found.images - case.images).flatten(1).abs().amax(1)
    slope = (case.weight[0] - case.weight[1]).abs().sum()
    needed = margin(case.logits(), case.labels) / slope
    assert (case.model(found.images).argmax(1) != case.labels).all()
    assert (change <= needed + 0.002 + 1e-6).all()
    assert (found.queries <= (needed / 0.002).ceil() + 2).all()


def test_a_random_start_reaches_both_ends_of_the_budget() -> None:
    case = linear(count=8, classes=2)
    params = PgdParams(epsilon=0.01, alpha=1e-9, num_iter=1, random_start=True)
    change = pgd.perturb(case.model, case.images, case.labels, params, context()).images - case.images
    assert change.min() < -0.009
    assert change.max() > 0.009


def test_one_error_of_a_random_surrogate_does_not_stop_pgd() -> None:
    case = fickle()
    params = PgdParams(epsilon=0.05, alpha=0.01, num_iter=3, random_start=False)
    found = pgd.perturb(case.model, case.images, case.labels, params, context())
    assert found.queries.tolist() == [3] * len(case.images)


def test_a_random_start_is_anywhere_in_the_ball_alike() -> None:
    case = linear(count=20, classes=2)
    params = PgdParams(epsilon=0.1, alpha=1e-9, num_iter=1, random_start=True)
    change = (pgd.perturb(case.model, case.images, case.labels, params, context()).images - case.images) / 0.1
    inner = (change.abs() < 0.5).float().mean().item()
    assert inner == pytest.approx(0.5, abs=0.06)  # of 720 pixels, standard deviation 0.019
