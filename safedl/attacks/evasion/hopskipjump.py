"""Walks along the boundary by decisions alone (Chen, Jordan, Wainwright: HopSkipJumpAttack, S&P 2020), L2."""

from __future__ import annotations

import itertools
import math

import torch
from torch import Tensor

from safedl.attacks.contract import EvasionContext, Perturbation
from safedl.attacks.evasion.asking import CHUNK, scores
from safedl.attacks.evasion.gradient import keep_near, per_image
from safedl.catalog.attacks.evasion import HopskipjumpParams
from safedl.models.classifier import Classifier

STARTS = 20
"""Noise images tried as a first misclassified one."""
FIRST_SPREAD = 0.1
"""How far from the first boundary point the model is asked, in the pixels' range."""


def perturb(
    model: Classifier, images: Tensor, labels: Tensor, params: HopskipjumpParams, context: EvasionContext
) -> Perturbation:
    """Return the nearest misclassified images met; the original where none was found within `num_queries`.

    With `epsilon`, an image is left alone once it is that near. A turn begins only where its questions are left.
    """
    rng, pixels = context.rng, images[0].numel()
    halvings = math.ceil(1.5 * math.log2(pixels))  # the paper's precision: pixels ** -1.5 of the distance
    oracle = _Oracle(model, labels)
    here, found = _start(oracle, images, params.num_queries, rng)
    able = (found & (oracle.queries + halvings <= params.num_queries)).nonzero().squeeze(1)
    here[able] = _to_boundary(oracle, here[able], images[able], able, halvings)
    nearest, distance = here.clone(), _distance(here, images)
    for turn in itertools.count(1):
        evaluations = min(round(params.initial_evals * math.sqrt(turn)), params.max_evals)
        going = found & (oracle.queries + evaluations + 2 * halvings <= params.num_queries)
        if params.epsilon is not None:
            going &= distance > params.epsilon
        active = going.nonzero().squeeze(1)
        if not len(active):
            break
        there, original = here[active], images[active]
        length = _distance(there, original)
        spread = torch.full_like(length, FIRST_SPREAD) if turn == 1 else length / pixels
        normal = _estimate_normal(oracle, there, active, spread, evaluations, rng)
        there = _leap(oracle, there, normal, length / math.sqrt(turn), active, halvings)
        there = _to_boundary(oracle, there, original, active, halvings)
        here[active] = there
        length = _distance(there, original)
        better = length < distance[active]
        nearest[active[better]], distance[active[better]] = there[better], length[better]
        context.progress.step("attack", int(oracle.queries.amax()), params.num_queries)
    return Perturbation(keep_near(nearest, images, params.epsilon), oracle.queries)


class _Oracle:
    """Tells whether the model errs, and counts how often it was asked about each image."""

    def __init__(self, model: Classifier, labels: Tensor) -> None:
        self.model, self.labels = model, labels
        self.queries = torch.zeros_like(labels)

    def errs(self, points: Tensor, index: Tensor) -> Tensor:
        """Return bool [M] for `points` [M, C, H, W], the j-th of which belongs to image `index[j]`."""
        self.queries.index_add_(0, index, torch.ones_like(index))
        return scores(self.model, points).argmax(1) != self.labels[index]


def _start(oracle: _Oracle, images: Tensor, num_queries: int, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return a misclassified image for each, and for which of them, bool [N], there is one.

    Uniform noise within random limits, since that is of more than one class. Else the nearest image of another class
    in the batch, about which nothing has to be asked.
    """
    made, found = images.clone(), torch.zeros(len(images), dtype=torch.bool, device=images.device)
    for _ in range(min(STARTS, num_queries)):
        index = (~found).nonzero().squeeze(1)
        if not len(index):
            break
        limits = torch.rand((len(index), 2), generator=rng).sort(1).values
        low, high = per_image(limits[:, 0]), per_image(limits[:, 1])
        noise = (low + (high - low) * torch.rand((len(index), *images.shape[1:]), generator=rng)).to(images.device)
        hit = oracle.errs(noise, index)
        made[index[hit]], found[index[hit]] = noise[hit], True
    index = (~found).nonzero().squeeze(1)
    if len(index):
        far = torch.cdist(images[index].flatten(1), images.flatten(1))
        far = far.masked_fill(oracle.labels[index].unsqueeze(1) == oracle.labels, float("inf"))
        length, mate = far.min(1)
        there = length.isfinite()
        made[index[there]], found[index[there]] = images[mate[there]], True
    return made, found


def _to_boundary(oracle: _Oracle, wrong: Tensor, original: Tensor, index: Tensor, halvings: int) -> Tensor:
    """Return the misclassified points nearest to the boundary that bisection finds on the ways to the originals."""
    low, high = wrong.new_zeros(len(wrong)), wrong.new_ones(len(wrong))
    way, best = wrong - original, wrong
    for _ in range(halvings if len(index) else 0):
        middle = (low + high) / 2
        point = original + per_image(middle) * way
        errs = oracle.errs(point, index)
        best = point.where(per_image(errs), best)
        low, high = low.where(errs, middle), middle.where(errs, high)
    return best


def _estimate_normal(
    oracle: _Oracle, points: Tensor, index: Tensor, spread: Tensor, evaluations: int, rng: torch.Generator
) -> Tensor:
    """Return unit vectors [M, C, H, W] towards the wrong side, from `evaluations` decisions around each point.

    Each direction counts with its decision, +1 or -1, less their mean (the paper's equation 16).
    """
    count = len(points)
    signed, plain, balance = torch.zeros_like(points), torch.zeros_like(points), torch.zeros_like(spread)
    group = max(1, CHUNK // count)
    for start in range(0, evaluations, group):
        size = min(group, evaluations - start)
        drawn = torch.randn((size, *points.shape), generator=rng).to(points.device)
        drawn /= drawn.flatten(2).norm(dim=2).view(size, count, 1, 1, 1)
        asked = (points + per_image(spread) * drawn).clamp(0, 1)
        used = (asked - points) / per_image(spread)  # what is left of the direction inside [0, 1]
        decided = oracle.errs(asked.flatten(0, 1), index.repeat(size)).view(size, count) * 2.0 - 1
        signed += torch.einsum("gn,gnchw->nchw", decided, used)
        plain += used.sum(0)
        balance += decided.sum(0)
    mean = balance / evaluations
    normal = signed - per_image(mean.where(mean.abs() < 1, torch.zeros_like(mean))) * plain
    return normal / per_image(normal.flatten(1).norm(dim=1).clamp(min=1e-12))


def _leap(
    oracle: _Oracle, points: Tensor, normal: Tensor, size: Tensor, index: Tensor, halvings: int
) -> Tensor:  # fmt: skip
    """Return misclassified points as far along the normals as `size` [M], halved until they are; else the points."""
    best, waiting = points.clone(), torch.arange(len(points), device=points.device)
    for halving in range(halvings):
        step = per_image(size[waiting] / 2**halving)
        point = (points[waiting] + step * normal[waiting]).clamp(0, 1)
        errs = oracle.errs(point, index[waiting])
        best[waiting[errs]] = point[errs]
        waiting = waiting[~errs]
        if not len(waiting):
            break
    return best


def _distance(images: Tensor, original: Tensor) -> Tensor:
    length: Tensor = (images - original).flatten(1).norm(dim=1)
    return length
