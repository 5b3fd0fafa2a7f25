"""Simultaneous perturbation stochastic approximation (Uesato et al., ICML 2018)."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from safedl.attacks.contract import EvasionContext, Perturbation
from safedl.attacks.evasion.adam import Adam
from safedl.attacks.evasion.asking import estimate_gradient, random_signs, scores
from safedl.attacks.evasion.gradient import project_linf
from safedl.catalog.attacks.evasion import SpsaParams
from safedl.models.classifier import Classifier


def perturb(
    model: Classifier, images: Tensor, labels: Tensor, params: SpsaParams, context: EvasionContext
) -> Perturbation:
    """Return where Adam on gradients estimated along random signs leads, within `epsilon` and [0, 1].

    A step asks about `batch_size` points and about where it arrived. An image that is misclassified is left alone
    from then on.
    """
    pairs = params.batch_size // 2
    made = images.clone()
    queries = torch.zeros(len(images), dtype=torch.int64, device=images.device)
    active = torch.arange(len(images), device=images.device)
    adam, draw = Adam(images), partial(random_signs, rng=context.rng)
    for step in range(params.num_steps):
        here = made[active]
        gradient = estimate_gradient(model, here, labels[active], params.delta, pairs, draw)
        here = project_linf(here - params.learning_rate * adam.direction(gradient), images[active], params.epsilon)
        made[active] = here
        queries[active] += 2 * pairs + 1
        holds = scores(model, here).argmax(1) == labels[active]
        active = active[holds]
        adam.keep(holds)
        if not len(active):
            break
        context.progress.step("attack", step + 1, params.num_steps)
    return Perturbation(made, queries)
