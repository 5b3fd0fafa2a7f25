"""The smallest L2 change that makes the model err (Carlini, Wagner, S&P 2017, section VI).

Adam minimises ||x' - x||² + c max(margin(x') + confidence, 0) over w, where x' = (tanh(w) + 1) / 2 is an image for
every w. A binary search finds the smallest c for which the result is misclassified.
"""

from __future__ import annotations

import torch
from torch import Tensor

from safedl.attacks.contract import EvasionContext, Perturbation
from safedl.attacks.evasion.adam import Adam
from safedl.attacks.evasion.gradient import keep_near, margin
from safedl.catalog.attacks.evasion import CwParams
from safedl.models.classifier import Classifier
from safedl.progress import Part, Progress

SHRINK = 0.999999
"""Keeps w finite where a pixel is black or white."""
RISEN = 1.001
"""An image whose loss is above this multiple of what it was a tenth of the steps ago is not going anywhere."""
HOPELESS = 0.25
"""A weight below this share of what would do if the model were linear is not tried."""


def perturb(
    model: Classifier, images: Tensor, labels: Tensor, params: CwParams, context: EvasionContext
) -> Perturbation:
    """Return the nearest misclassified images met during the whole search."""
    count = len(images)
    made = images.clone()
    queries = torch.ones(count, dtype=torch.int64, device=images.device)
    needed = linear_weight(model, images, labels, params.confidence)
    distance = images.new_full((count,), float("inf"))
    weight = images.new_full((count,), params.initial_const)
    low, high = torch.zeros_like(weight), torch.full_like(weight, float("inf"))
    for turn in range(params.binary_search_steps):
        progress = Part(context.progress, turn, params.binary_search_steps)
        tried = (weight >= HOPELESS * needed).nonzero().squeeze(1)
        nearest, length, asked = _minimise(model, images[tried], labels[tried], weight[tried], params, progress)
        queries[tried] += asked
        found = torch.zeros(count, dtype=torch.bool, device=images.device)
        found[tried] = length.isfinite()
        better = length < distance[tried]
        made[tried[better]], distance[tried[better]] = nearest[better], length[better]
        low, high = low.where(found, weight), weight.where(found, high)
        weight = ((low + high) / 2).where(high.isfinite(), weight * 10)
    return Perturbation(keep_near(made, images, params.epsilon), queries)


def linear_weight(model: Classifier, images: Tensor, labels: Tensor, confidence: float) -> Tensor:
    """Return the smallest weight [N] for which a linear model with each image's margin and gradient would err.

    The minimum of ||d||² + c (margin + confidence - g d) over d is at d = c g / 2, misclassified from
    c = 2 (margin + confidence) / ||g||² on. Infinite where the gradient is zero: then the attack would not move.
    """
    images = images.detach().requires_grad_()
    lead = margin(model.surrogate(images), labels)
    (gradient,) = torch.autograd.grad(lead.sum(), images)
    return 2 * (lead.detach() + confidence) / gradient.square().flatten(1).sum(1)


def _minimise(
    model: Classifier, images: Tensor, labels: Tensor, weights: Tensor, params: CwParams, progress: Progress
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the nearest misclassified images met, their distances [N], infinite if none, and the questions [N].

    An image whose loss has risen is dropped. The paper's code looks at the sum over the batch, and whether it falls.
    """
    nearest, distances = images.clone(), images.new_full((len(images),), float("inf"))
    queries = torch.zeros(len(images), dtype=torch.int64, device=images.device)
    active = torch.arange(len(images), device=images.device)
    original, target, weight, previous = images, labels, weights, distances.clone()
    point = torch.atanh((2 * images - 1) * SHRINK)
    adam = Adam(point)
    check = -(-params.max_iterations // 10)
    for step in range(params.max_iterations if len(images) else 0):
        point.requires_grad_()
        made = (torch.tanh(point) + 1) / 2
        squares = (made - original).square().flatten(1).sum(1)
        lead = margin(model.surrogate(made), target)
        loss = squares + weight * (lead + params.confidence).clamp(min=0)
        (gradient,) = torch.autograd.grad(loss.sum(), point)
        queries[active] += 1
        point, made, length = point.detach(), made.detach(), squares.detach().sqrt()

        better = (lead < 0) & (lead <= -params.confidence) & (length < distances[active])
        if model.random_surrogate and better.any():  # one error of the surrogate proves nothing
            with torch.no_grad():
                better[better.clone()] = model(made[better]).argmax(1) != target[better]
        nearest[active[better]], distances[active[better]] = made[better], length[better]

        point.sub_(adam.direction(gradient), alpha=params.learning_rate)
        if step % check == 0:
            moving = loss.detach() <= RISEN * previous
            if not moving.any():
                break
            previous = loss.detach()
            active, original, target, weight, previous, point = (
                t[moving] for t in (active, original, target, weight, previous, point)
            )
            adam.keep(moving)
        progress.step("attack", step + 1, params.max_iterations)
    return nearest, distances, queries
