"""Gradients estimated by natural evolution strategies (Ilyas et al., ICML 2018)."""

from __future__ import annotations

import torch
from torch import Tensor

from safedl.attacks.contract import EvasionContext, Perturbation
from safedl.attacks.evasion.asking import estimate_gradient, scores
from safedl.attacks.evasion.gradient import project_linf
from safedl.catalog.attacks.evasion import NesParams
from safedl.models.classifier import Classifier


def perturb(
    model: Classifier, images: Tensor, labels: Tensor, params: NesParams, context: EvasionContext
) -> Perturbation:
    """Return where steps along the sign of the estimated gradient lead, within `epsilon`, [0, 1] and `num_queries`.

    A step asks about `batch_size` points, pairs of opposite Gaussian directions, and about where it arrived. An
    image that is misclassified is left alone from then on.
    """
    pairs = min(params.batch_size, params.num_queries - 1) // 2
    steps = params.num_queries // (2 * pairs + 1)
    made = images.clone()
    queries = torch.zeros(len(images), dtype=torch.int64, device=images.device)
    active = torch.arange(len(images), device=images.device)

    def draw(shape: tuple[int, ...]) -> Tensor:
        return torch.randn(shape, generator=context.rng)

    for step in range(steps):
        here = made[active]
        gradient = estimate_gradient(model, here, labels[active], params.sigma, pairs, draw)
        here = project_linf(here - params.learning_rate * gradient.sign(), images[active], params.epsilon)
        made[active] = here
        queries[active] += 2 * pairs + 1
        active = active[scores(model, here).argmax(1) == labels[active]]
        if not len(active):
            break
        context.progress.step("attack", step + 1, steps)
    return Perturbation(made, queries)
