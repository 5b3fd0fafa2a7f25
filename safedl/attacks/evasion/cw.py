"""The smallest L2 change that makes the model err (Carlini, Wagner, S&P 2017, section VI).

Adam minimises ||x' - x||² + c max(margin(x') + confidence, 0) over w, where x' = (tanh(w) + 1) / 2 is an image for
every w. A binary search finds the smallest c for which the result is misclassified.
"""

from __future__ import annotations

import torch
from torch import Tensor

from safedl.attacks.contract import EvasionContext, Perturbation
from safedl.attacks.evasion.adam import Adam
from safedl.attacks.evasion.gradient import keep_near, margin, per_image
from safedl.catalog.attacks.evasion import CwParams
from safedl.models.classifier import Classifier
from safedl.progress import Part, Progress

SHRINK = 0.999999
"""Keeps w finite where a pixel is black or white."""
STALLED = 0.9999
"""An image whose loss is above this share of what it was a tenth of the steps ago is not going anywhere."""


def perturb(
    model: Classifier, images: Tensor, labels: Tensor, params: CwParams, context: EvasionContext
) -> Perturbation:
    """Return the nearest misclassified images met during the whole search."""
    count = len(images)
    made = images.clone()
    queries = torch.zeros(count, dtype=torch.int64, device=images.device)
    distance = images.new_full((count,), float("inf"))
    weight = images.new_full((count,), params.initial_const)
    low, high = torch.zeros_like(weight), torch.full_like(weight, float("inf"))
    for turn in range(params.binary_search_steps):
        progress = Part(context.progress, turn, params.binary_search_steps)
        found, nearest, length, asked = _minimise(model, images, labels, weight, params, progress)
        queries += asked
        better = length < distance
        made, distance = nearest.where(per_image(better), made), length.where(better, distance)
        low, high = low.where(found, weight), weight.where(found, high)
        weight = ((low + high) / 2).where(high.isfinite(), weight * 10)
    return Perturbation(keep_near(made, images, params.epsilon), queries)


def _minimise(
    model: Classifier, images: Tensor, labels: Tensor, weights: Tensor, params: CwParams, progress: Progress
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return which images [N] were misclassified on the way, the nearest such, their distances and the questions [N].

    An image whose loss stands still is dropped; the paper's code looks at the sum over the batch.
    """
    nearest, distances = images.clone(), images.new_full((len(images),), float("inf"))
    queries = torch.zeros(len(images), dtype=torch.int64, device=images.device)
    active = torch.arange(len(images), device=images.device)
    original, target, weight, previous = images, labels, weights, distances.clone()
    point = torch.atanh((2 * images - 1) * SHRINK)
    adam = Adam(point)
    check = -(-params.max_iterations // 10)
    for step in range(params.max_iterations):
        point.requires_grad_()
        made = (torch.tanh(point) + 1) / 2
        squares = (made - original).square().flatten(1).sum(1)
        lead = margin(model.surrogate(made), target)
        loss = squares + weight * (lead + params.confidence).clamp(min=0)
        (gradient,) = torch.autograd.grad(loss.sum(), point)
        queries[active] += 1
        point, made, length = point.detach(), made.detach(), squares.detach().sqrt()

        better = (lead < 0) & (lead <= -params.confidence) & (length < distances[active])
        nearest[active[better]], distances[active[better]] = made[better], length[better]

        point.sub_(adam.direction(gradient), alpha=params.learning_rate)
        if step % check == 0:
            moving = loss.detach() <= STALLED * previous
            if not moving.any():
                break
            previous = loss.detach()
            active, original, target, weight, previous, point = (
                t[moving] for t in (active, original, target, weight, previous, point)
            )
            adam.keep(moving)
        progress.step("attack", step + 1, params.max_iterations)
    return distances.isfinite(), nearest, distances, queries
