"""Fast gradient sign: one step along the sign of the gradient (Goodfellow, Shlens, Szegedy, ICLR 2015)."""

from __future__ import annotations

import torch
from torch import Tensor

from safedl.attacks.contract import EvasionContext, Perturbation
from safedl.attacks.evasion.gradient import loss_gradient, project_linf
from safedl.catalog.attacks.evasion import FgsmParams
from safedl.models.classifier import Classifier


def perturb(
    model: Classifier, images: Tensor, labels: Tensor, params: FgsmParams, context: EvasionContext
) -> Perturbation:
    """Return images + epsilon sign(gradient of the cross-entropy), within [0, 1]."""
    _, gradient = loss_gradient(model, images, labels)
    made = project_linf(images + params.epsilon * gradient.sign(), images, params.epsilon)
    return Perturbation(made, torch.ones(len(images), dtype=torch.int64))
