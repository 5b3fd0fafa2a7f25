"""Adam for images that leave the batch one by one (Kingma, Ba, ICLR 2015)."""

from __future__ import annotations

import torch
from torch import Tensor

BETA1, BETA2, TINY = 0.9, 0.999, 1e-8


class Adam:
    """The moments of the gradients of N images, all after the same number of steps."""

    def __init__(self, images: Tensor) -> None:
        """Start for tensors like `images` [N, ...]."""
        self.first, self.second, self.steps = torch.zeros_like(images), torch.zeros_like(images), 0

    def direction(self, gradient: Tensor) -> Tensor:
        """Return what a step of size 1 goes along, of the shape of `gradient` [N, ...]; it is to be subtracted."""
        self.steps += 1
        self.first.lerp_(gradient, 1 - BETA1)
        self.second.mul_(BETA2).addcmul_(gradient, gradient, value=1 - BETA2)
        scale = (self.second / (1 - BETA2**self.steps)).sqrt_().add_(TINY)
        return (self.first / (1 - BETA1**self.steps)).div_(scale)

    def keep(self, which: Tensor) -> None:
        """Forget the images that `which`, bool [N], leaves out."""
        self.first, self.second = self.first[which], self.second[which]
