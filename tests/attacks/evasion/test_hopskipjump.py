from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from safedl.attacks.evasion import hopskipjump
from safedl.catalog.attacks.evasion import HopskipjumpParams
from safedl.models.classifier import Classifier
from tests.attacks.evasion.helpers import context, cosine, distance, linear


def test_comes_near_the_closest_point_of_a_linear_boundary_and_ends_on_it() -> None:
    case = linear(classes=2)
    params = HopskipjumpParams(num_queries=4000, epsilon=None)
    found = hopskipjump.perturb(case.model, case.images, case.labels, params, context())
    assert (case.model(found.images).argmax(1) != case.labels).all()
    length = distance(found.images, case.images)
    far = case.distances() > 0.02  # nearer ones are at the mercy of rounding
    assert far.sum() > len(far) / 2
    assert (length[far] / case.distances()[far]).median() < 1.1
    inside = case.images + 0.98 * (found.images - case.images)
    assert (case.model(inside).argmax(1) == case.labels)[far].all()
    assert (found.queries <= 4000).all()


def test_the_normal_is_estimated_from_decisions_alone() -> None:
    case = linear(count=6, classes=2)
    normals = case.normals()[torch.arange(6), 1 - case.labels]
    gaps = (case.distances() * normals.norm(dim=1)).unsqueeze(1)
    points = case.images + (normals * gaps / normals.norm(dim=1, keepdim=True) ** 2).view_as(case.images)
    oracle = hopskipjump._Oracle(case.model, case.labels)
    rng = torch.Generator().manual_seed(0)
    found = hopskipjump._estimate_normal(oracle, points, torch.arange(6), torch.full((6,), 0.05), 1500, rng)
    assert (cosine(found, normals) > 0.95).all()
    assert oracle.queries.tolist() == [1500] * 6


def test_the_normal_does_not_need_as_many_decisions_of_either_kind() -> None:
    """The paper's equation 16: each decision counts less their mean."""
    case = linear(count=6, classes=2)
    normals = case.normals()[torch.arange(6), 1 - case.labels]
    lengths = normals.norm(dim=1, keepdim=True)
    beyond = case.distances().unsqueeze(1) + 0.012  # where most directions of 0.05 are misclassified
    points = case.images + (normals * beyond / lengths).view_as(case.images)
    oracle = hopskipjump._Oracle(case.model, case.labels)
    rng = torch.Generator().manual_seed(0)
    found = hopskipjump._estimate_normal(oracle, points, torch.arange(6), torch.full((6,), 0.05), 300, rng)
    assert cosine(found, normals).mean() > 0.8


def test_steps_are_as_long_as_the_paper_says() -> None:
    """Points are asked about within 0.1, then 1 / pixels of the distance; leaps are 1 / sqrt(turn) of it."""
    case = linear(classes=2)
    far = case.distances().argmax().unsqueeze(0)
    images, labels = case.images[far], case.labels[far]
    asked: list[torch.Tensor] = []
    hook = case.model.register_forward_pre_hook(lambda _m, inputs: asked.append(inputs[0].clone()))
    params = HopskipjumpParams(num_queries=1000, initial_evals=20, epsilon=None)
    hopskipjump.perturb(case.model, images, labels, params, context())
    hook.remove()
    turns = [place for place, points in enumerate(asked) if len(points) > 1]  # all else asks about one point
    assert len(turns) > 3
    for turn, place in enumerate(turns, 1):
        before = torch.cat(asked[:place])
        here = before[case.model(before).argmax(1) != labels][-1:]
        length = float(distance(here, images))
        spread = 0.1 if turn == 1 else length / images[0].numel()
        assert float(distance(asked[place], here).mean()) == pytest.approx(spread, rel=0.02)
        assert float(distance(asked[place + 1], here)) == pytest.approx(length / math.sqrt(turn), rel=0.05)


def test_asks_for_nothing_but_the_class_and_counts_it(
    clean_model: Classifier, digits_batch: tuple[torch.Tensor, ...]
) -> None:
    images, labels = (part[:8] for part in digits_batch)
    asked: list[int] = []
    hook = clean_model.register_forward_pre_hook(lambda _m, inputs: asked.append(len(inputs[0])))
    params = HopskipjumpParams(num_queries=400, initial_evals=20, epsilon=None)
    found = hopskipjump.perturb(clean_model, images, labels, params, context(num_classes=10))
    hook.remove()
    assert int(found.queries.sum()) == sum(asked)
    assert found.queries.max() <= 400
    assert (clean_model(found.images).argmax(1) != labels).float().mean() > 0.9
    far = distance(found.images, images)
    more = HopskipjumpParams(num_queries=1000, initial_evals=20, epsilon=None)
    nearer = hopskipjump.perturb(clean_model, images, labels, more, context(num_classes=10))
    assert distance(nearer.images, images).mean() < far.mean()


def test_stops_within_epsilon_and_keeps_the_original_beyond(
    clean_model: Classifier, digits_batch: tuple[torch.Tensor, ...]
) -> None:
    images, labels = digits_batch
    params = HopskipjumpParams(num_queries=300, epsilon=1.2)
    found = hopskipjump.perturb(clean_model, images, labels, params, context(num_classes=10))
    length = distance(found.images, images)
    assert length.max() <= 1.2
    assert (length > 0).any()
    assert found.queries[length > 0].float().mean() < found.queries.max()


def test_where_no_noise_is_misclassified_an_image_of_another_class_is_the_start() -> None:
    case = linear(count=30, classes=2, shape=(1, 20, 20))
    oracle = hopskipjump._Oracle(case.model, case.labels)
    rng = torch.Generator().manual_seed(0)
    here, found = hopskipjump._start(oracle, case.images, 0, rng)
    assert found.all()
    assert (case.model(here).argmax(1) != case.labels).all()
    assert oracle.queries.sum() == 0
    lonely = hopskipjump._Oracle(case.model, case.labels[:1])
    alone, missing = hopskipjump._start(lonely, case.images[:1], 0, rng)
    assert torch.equal(alone, case.images[:1])
    assert not missing.any()


def test_the_estimate_looks_at_directions_as_they_are_inside_the_range() -> None:
    """By the paper's equation 16, for points on the range's edge, from the very points that were asked about."""
    case = linear(count=2, classes=2)
    points = case.images.clone()
    points[:, :, :, :3] = 0.0
    asked: list[torch.Tensor] = []
    hook = case.model.register_forward_pre_hook(lambda _m, inputs: asked.append(inputs[0].clone()))
    oracle, rng = hopskipjump._Oracle(case.model, case.labels), torch.Generator().manual_seed(0)
    found = hopskipjump._estimate_normal(oracle, points, torch.arange(2), torch.full((2,), 3.0), 40, rng)
    hook.remove()
    around = torch.cat(asked).view(40, 2, *points.shape[1:])
    assert around.min() == 0
    for image in range(2):
        decided = (case.model(around[:, image]).argmax(1) != case.labels[image]) * 2.0 - 1
        assert abs(decided.mean()) < 1
        ways = around[:, image] - points[image]
        slow = ((decided - decided.mean()).view(-1, 1, 1, 1) * ways).sum(0)
        assert torch.allclose(found[image], slow / slow.norm(), atol=1e-5)


def test_where_no_direction_is_misclassified_it_points_away_from_them() -> None:
    case = linear(count=3, classes=2)
    oracle, rng = hopskipjump._Oracle(case.model, case.labels), torch.Generator().manual_seed(0)
    found = hopskipjump._estimate_normal(oracle, case.images, torch.arange(3), torch.full((3,), 1e-4), 30, rng)
    again = torch.randn((30, *case.images.shape), generator=torch.Generator().manual_seed(0))
    again /= again.flatten(2).norm(dim=2).view(30, 3, 1, 1, 1)
    assert (cosine(found, -again.sum(0)) > 0.99).all()


def test_the_questions_of_a_turn_grow_with_its_square_root(monkeypatch: pytest.MonkeyPatch) -> None:
    case, spent, estimate = linear(count=1, classes=2), [], hopskipjump._estimate_normal

    def noted(*args: Any) -> torch.Tensor:
        spent.append(args[4])
        return estimate(*args)

    monkeypatch.setattr(hopskipjump, "_estimate_normal", noted)
    params = HopskipjumpParams(num_queries=600, initial_evals=30, max_evals=58, epsilon=None)
    hopskipjump.perturb(case.model, case.images, case.labels, params, context())
    assert spent[:5] == [30, 42, 52, 58, 58]
