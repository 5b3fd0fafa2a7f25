from __future__ import annotations

import pytest
import torch

from safedl.attacks.contract import Perturb
from safedl.attacks.evasion import nes, spsa
from safedl.attacks.evasion.asking import estimate_gradient
from safedl.attacks.evasion.gradient import margin
from safedl.catalog.attacks.evasion import NesParams, SpsaParams
from safedl.models.classifier import Classifier
from tests.attacks.evasion.helpers import context, cosine, linear


def test_the_estimate_is_exact_on_average_for_a_linear_margin() -> None:
    case = linear(count=4, classes=2)
    rng = torch.Generator().manual_seed(0)

    def draw(shape: tuple[int, ...]) -> torch.Tensor:
        return torch.randn(shape, generator=rng)

    found = estimate_gradient(case.model, case.images, case.labels, 0.01, 4000, draw).flatten(1)
    truth = case.weight[case.labels] - case.weight[1 - case.labels]
    assert torch.allclose(found.norm(dim=1), truth.norm(dim=1), rtol=0.1)
    assert (cosine(found, truth) > 0.98).all()


@pytest.mark.parametrize("draw", ["normal", "signs"])
def test_estimates_agree_with_the_true_gradient_of_a_network(
    draw: str, clean_model: Classifier, digits_batch: tuple[torch.Tensor, ...]
) -> None:
    images, labels = digits_batch
    images = (0.1 + 0.8 * images[:8]).requires_grad_()  # where no direction is cut off at 0 or 1
    labels = labels[:8]
    (truth,) = torch.autograd.grad(margin(clean_model(images), labels).sum(), images)
    rng = torch.Generator().manual_seed(0)

    def directions(shape: tuple[int, ...]) -> torch.Tensor:
        drawn = torch.randn(shape, generator=rng)
        return drawn if draw == "normal" else drawn.sign()

    found = estimate_gradient(clean_model, images.detach(), labels, 0.01, 500, directions)
    assert cosine(found, truth).mean() > 0.85


def test_only_valid_images_are_asked_about() -> None:
    case = linear(count=4)
    asked: list[torch.Tensor] = []
    hook = case.model.register_forward_pre_hook(lambda _m, inputs: asked.append(inputs[0]))
    rng = torch.Generator().manual_seed(0)
    estimate_gradient(case.model, case.images, case.labels, 0.5, 20, lambda shape: torch.randn(shape, generator=rng))
    hook.remove()
    assert min(float(points.min()) for points in asked) >= 0
    assert max(float(points.max()) for points in asked) <= 1


@pytest.mark.parametrize(
    ("attack", "params", "per_step", "steps"),
    [
        (nes.perturb, NesParams(epsilon=0.001, num_queries=100, batch_size=30), 31, 3),
        (nes.perturb, NesParams(epsilon=0.001, num_queries=3, batch_size=31), 3, 1),
        (spsa.perturb, SpsaParams(epsilon=0.001, num_steps=4, batch_size=7), 7, 4),
    ],
)
def test_questions_are_counted_and_end(attack: Perturb, params: object, per_step: int, steps: int) -> None:
    case = linear(count=20)
    asked: list[int] = []
    hook = case.model.register_forward_pre_hook(lambda _m, inputs: asked.append(len(inputs[0])))
    found = attack(case.model, case.images, case.labels, params, context())
    hook.remove()
    assert int(found.queries.sum()) == sum(asked)
    holds = case.model(found.images).argmax(1) == case.labels
    assert holds.any()
    assert set(found.queries[holds].tolist()) == {per_step * steps}


@pytest.mark.parametrize(
    ("attack", "params"),
    [
        (nes.perturb, NesParams(epsilon=0.3, learning_rate=0.05, num_queries=600)),
        (spsa.perturb, SpsaParams(epsilon=0.3, learning_rate=0.05, num_steps=20)),
    ],
)
def test_finds_most_digits_within_a_wide_budget(
    attack: Perturb, params: object, clean_model: Classifier, digits_batch: tuple[torch.Tensor, ...]
) -> None:
    images, labels = digits_batch
    found = attack(clean_model, images, labels, params, context(num_classes=10))
    errs = clean_model(found.images).argmax(1) != labels
    assert errs.float().mean() > 0.8
    assert found.queries[errs].float().mean() < found.queries.max()
