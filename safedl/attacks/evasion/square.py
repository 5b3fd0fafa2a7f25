"""Random squares at the edge of the budget (Andriushchenko et al.: Square attack, ECCV 2020), L-infinity."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from safedl.attacks.contract import EvasionContext, Perturbation
from safedl.attacks.evasion.asking import random_signs, scores
from safedl.attacks.evasion.gradient import margin, per_image, project_linf
from safedl.catalog.attacks.evasion import SquareParams
from safedl.models.classifier import Classifier

HALVINGS = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)
"""After which of 10,000 questions the squares cover half as much."""


def perturb(
    model: Classifier, images: Tensor, labels: Tensor, params: SquareParams, context: EvasionContext
) -> Perturbation:
    """Return what is left of vertical stripes after squares that lowered the margin replaced parts of them.

    Every pixel is `epsilon` away from the original, or at 0 or 1. One question per square; an image that is
    misclassified is left alone from then on.
    """
    rng, device = context.rng, images.device
    count, channels, height, width = images.shape
    stripes = random_signs((count, channels, 1, width), rng).to(device)
    made = project_linf(images + params.epsilon * stripes, images, params.epsilon)
    lead = margin(scores(model, made), labels)
    queries = torch.ones(count, dtype=torch.int64, device=device)
    active = torch.arange(count, device=device)[lead >= 0]
    for step in range(1, params.num_queries):
        if not len(active):
            break
        side = square_side(step / params.num_queries, params.p_init, height, width)
        square = _squares(len(active), side, height, width, rng).to(device)
        colour = random_signs((len(active), channels, 1, 1), rng).to(device)
        original, before = images[active], made[active]
        after = project_linf(original + params.epsilon * colour, original, params.epsilon).where(square, before)
        new = margin(scores(model, after), labels[active])
        queries[active] += 1
        better = new < lead[active]
        made[active] = after.where(per_image(better), before)
        lead[active] = new.where(better, lead[active])
        active = active[lead[active] >= 0]
        context.progress.step("attack", step, params.num_queries)
    return Perturbation(made, queries)


def square_side(done: float, share: float, height: int, width: int) -> int:
    """Return the squares' side after `done`, 0 to 1, of the questions, if the first cover `share` of the image."""
    share /= 2 ** sum(10_000 * done > halving for halving in HALVINGS)
    return max(1, min(round(math.sqrt(share * height * width)), min(height, width) - 1))


def _squares(count: int, side: int, height: int, width: int, rng: torch.Generator) -> Tensor:
    """Return bool [count, 1, height, width]: a random square of `side` in each."""
    top = torch.randint(0, height - side + 1, (count, 1), generator=rng)
    left = torch.randint(0, width - side + 1, (count, 1), generator=rng)
    rows, columns = torch.arange(height), torch.arange(width)
    inside_rows = (rows >= top) & (rows < top + side)
    inside_columns = (columns >= left) & (columns < left + side)
    return (inside_rows.unsqueeze(2) & inside_columns.unsqueeze(1)).unsqueeze(1)
