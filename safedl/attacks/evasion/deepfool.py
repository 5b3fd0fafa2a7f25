"""Steps over the nearest boundary of the linearised model (Moosavi-Dezfooli, Fawzi, Frossard, CVPR 2016)."""

from __future__ import annotations

import torch
from torch import Tensor

from safedl.attacks.contract import EvasionContext, Perturbation
from safedl.attacks.evasion.gradient import keep_near, per_image
from safedl.catalog.attacks.evasion import DeepfoolParams
from safedl.models.classifier import Classifier

TINY = 1e-8
PUSH = 1e-4
"""Added to each step, so that an image on the boundary still moves."""


def perturb(
    model: Classifier, images: Tensor, labels: Tensor, params: DeepfoolParams, context: EvasionContext
) -> Perturbation:
    """Return images on the other side of the nearest boundary, in L2; the original where `max_iter` did not do.

    As in the paper's own code, the overshoot applies to every iterate: without it they would end on the boundary.
    One question is one point looked at, with or without its gradients.
    """
    made, total = images.clone(), torch.zeros_like(images)
    queries = torch.zeros(len(images), dtype=torch.int64, device=images.device)
    active = torch.arange(len(images), device=images.device)
    for step in range(params.max_iter):
        total[active] += _step(model, made[active], labels[active])
        made[active] = (images[active] + (1 + params.overshoot) * total[active]).clamp(0, 1)
        with torch.no_grad():  # asking first costs one forward pass, and saves a backward pass for every class
            holds = model(made[active]).argmax(1) == labels[active]
        queries[active] += 2
        active = active[holds]
        if not len(active):
            break
        context.progress.step("attack", step + 1, params.max_iter)
    made[active] = images[active]
    return Perturbation(keep_near(made, images, params.epsilon), queries)


def _step(model: Classifier, images: Tensor, labels: Tensor) -> Tensor:
    """Return the shortest step [N, C, H, W] onto a boundary with another class, if the model were linear."""
    images = images.detach().requires_grad_()
    logits = model.surrogate(images)
    classes = logits.shape[1]
    shortest, step = images.new_full((len(images),), float("inf")), torch.zeros_like(images)
    for offset in range(1, classes):  # backward passes share one forward pass
        other = (labels + offset) % classes
        gap = (logits.gather(1, other.unsqueeze(1)) - logits.gather(1, labels.unsqueeze(1))).squeeze(1)
        (normal,) = torch.autograd.grad(gap.sum(), images, retain_graph=offset < classes - 1)
        norm = normal.flatten(1).norm(dim=1) + TINY
        length = gap.detach().abs() / norm
        nearer = length < shortest
        shortest = length.where(nearer, shortest)
        step = (normal * per_image((length + PUSH) / norm)).where(per_image(nearer), step)
    return step
