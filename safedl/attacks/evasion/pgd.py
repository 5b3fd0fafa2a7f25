"""Projected gradient descent under an L-infinity budget (Madry et al., ICLR 2018)."""

from __future__ import annotations

import torch
from torch import Tensor

from safedl.attacks.contract import EvasionContext, Perturbation
from safedl.attacks.evasion.gradient import loss_gradient, project_linf
from safedl.catalog.attacks.evasion import PgdParams
from safedl.models.classifier import Classifier


def perturb(
    model: Classifier, images: Tensor, labels: Tensor, params: PgdParams, context: EvasionContext
) -> Perturbation:
    """Return what `num_iter` steps of size `alpha` along the gradient's sign lead to, within `epsilon` and [0, 1].

    An image that is misclassified is left alone from then on: its gradient shows its logits, so looking costs nothing.
    Where the surrogate is random, one error proves nothing, and all steps are taken.
    """
    return ascend(model, images, labels, params, context)


def ascend(
    model: Classifier, images: Tensor, labels: Tensor, params: PgdParams, context: EvasionContext,
    *, stop_early: bool = True,
) -> Perturbation:  # fmt: skip
    """Return what `perturb` does; all steps for every image unless `stop_early`."""
    made = images.clone()
    if params.random_start:
        noise = torch.empty(images.shape).uniform_(-1, 1, generator=context.rng).to(images.device)
        made = project_linf(images + params.epsilon * noise, images, params.epsilon)
    queries = torch.zeros(len(images), dtype=torch.int64, device=images.device)
    active = torch.arange(len(images), device=images.device)
    for step in range(params.num_iter):
        logits, gradient = loss_gradient(model, made[active], labels[active])
        queries[active] += 1
        if stop_early and not model.random_surrogate:
            holds = logits.argmax(1) == labels[active]
            active, gradient = active[holds], gradient[holds]
        if not len(active):
            break
        made[active] = project_linf(made[active] + params.alpha * gradient.sign(), images[active], params.epsilon)
        context.progress.step("attack", step + 1, params.num_iter)
    return Perturbation(made, queries)
