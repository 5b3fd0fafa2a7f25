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


def margin(logits: Tensor, labels: Tensor) -> Tensor:
    """Return [N]: how far the label's logit is above the best other one; negative where the model errs."""
    own = labels.unsqueeze(1)
    return logits.gather(1, own).squeeze(1) - logits.scatter(1, own, float("-inf")).amax(1)


def project_linf(images: Tensor, original: Tensor, epsilon: float) -> Tensor:
    """Return `images` within `epsilon` of `original` in every pixel, and within [0, 1]."""
    return images.clamp(original - epsilon, original + epsilon).clamp(0, 1)


def keep_near(images: Tensor, original: Tensor, epsilon: float | None) -> Tensor:
    """Return `images` [N, C, H, W], the original where one is farther than `epsilon` from it in L2.

    None: nothing is too far.
    """
    if epsilon is None:
        return images
    return images.where(per_image((images - original).flatten(1).norm(dim=1) <= epsilon), original)


def per_image(values: Tensor) -> Tensor:
    """Return values [N] as [N, 1, 1, 1], to be combined with images."""
    return values.view(-1, 1, 1, 1)
