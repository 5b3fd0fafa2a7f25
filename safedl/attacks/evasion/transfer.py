"""Adversarial images made for the attacker's own model (after Papernot et al., AsiaCCS 2017).

The paper labels the substitute's training data by asking the victim; here the attacker has the training set.
"""

from __future__ import annotations

import torch
from torch import Tensor

from safedl.attacks.contract import EvasionContext, Perturbation
from safedl.attacks.evasion import fgsm, pgd
from safedl.catalog.attacks.evasion import FgsmParams, PgdParams, TransferParams
from safedl.models.classifier import Classifier


def perturb(
    model: Classifier, images: Tensor, labels: Tensor, params: TransferParams, context: EvasionContext
) -> Perturbation:
    """Return images made for a substitute; the model itself is never asked.

    `pgd` takes all its steps also where the substitute errs already: an image that has just crossed the substitute's
    boundary seldom crosses the model's. Raises `ValueError` if the context has no substitutes.
    """
    if context.substitute is None:
        raise ValueError("transfer needs an EvasionContext with `substitute`")
    chosen = params.substitute_model
    substitute = context.substitute(chosen["name"], chosen["params"])
    substitute = substitute.clone().requires_grad_(False).to(images.device)
    if params.attack_method == "fgsm":
        made = fgsm.perturb(substitute, images, labels, FgsmParams(epsilon=params.epsilon), context).images
    else:
        inner = PgdParams(
            epsilon=params.epsilon, alpha=params.alpha, num_iter=params.num_iter, random_start=params.random_start
        )
        made = pgd.ascend(substitute, images, labels, inner, context, stop_early=False).images
    return Perturbation(made, torch.zeros(len(images), dtype=torch.int64))
