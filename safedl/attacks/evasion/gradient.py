"""What attacks by gradients share: the gradient of the loss, and the projection onto the budget."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from safedl.models.classifier import Classifier


def loss_gradient(model: Classifier, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return logits [N, K] and the gradient [N, C, H, W] of each image's cross-entropy, in float32."""
    images = images.detach().requires_grad_()
    logits = model.surrogate(images)
    (gradient,) = torch.autograd.grad(F.cross_entropy(logits, labels, reduction="sum"), images)
    return logits.detach(), gradient


def project_linf(images: Tensor, original: Tensor, epsilon: float) -> Tensor:
    """Return `images` within `epsilon` of `original` in every pixel, and within [0, 1]."""
    return images.clamp(original - epsilon, original + epsilon).clamp(0, 1)
