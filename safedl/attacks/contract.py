"""What an attack is given and what it returns."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor

from safedl.data.imageset import ImageSet
from safedl.models.classifier import Classifier
from safedl.progress import SILENT, Progress


@dataclass(frozen=True)
class Trigger:
    """What is put on an image to call the backdoor.

    `pattern`: float [C, H, W] in [0, 1]; `mask`: float [1, H, W] in [0, 1], the pattern's opacity per pixel.
    """

    pattern: Tensor
    mask: Tensor

    def apply(self, images: Tensor) -> Tensor:
        """Return uint8 images [N, C, H, W] with the trigger on them; the input stays as it is."""
        opacity, added = self.mask.to(images.device), (self.pattern * self.mask * 255).to(images.device)
        chunks = images.split(1024)  # as float they take four times the memory
        return torch.cat([(c * (1 - opacity) + added).round().clamp(0, 255).to(torch.uint8) for c in chunks])


@dataclass(frozen=True)
class Poisoning:
    """An attack's result: the training set as the victim sees it, and the truth about it.

    `data`: N samples in the order of the clean training set; `mask`: bool [N], which are poisoned;
    `original_labels`: int64 [N]; `details`: what becomes keys of the attack's result.
    """

    data: ImageSet
    mask: Tensor
    original_labels: Tensor
    trigger: Trigger | None = None
    target_class: int | None = None
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class AttackContext:
    """What an attack may use besides the training set. `clean_model` is set where its catalog entry asks for it."""

    rng: torch.Generator
    num_classes: int
    device: torch.device
    clean_model: Classifier | None = None
    progress: Progress = SILENT


class Poison(Protocol):
    """The function of an attack on training data."""

    def __call__(self, data: ImageSet, params: Any, context: AttackContext) -> Poisoning:
        """Return the poisoned training set. Draws only from `context.rng`. Poison rate 0 is legal."""


@dataclass(frozen=True)
class EvasionContext:
    """What an attack at test time may use besides the model.

    `substitute(name, params)` returns a model of the attacker's own: architecture `name` with its `params`, trained
    on the clean training set. It is there for attacks whose catalog entry asks for it.
    """

    rng: torch.Generator
    num_classes: int
    progress: Progress = SILENT
    substitute: Callable[[str, Mapping[str, Any]], Classifier] | None = None


@dataclass(frozen=True)
class Perturbation:
    """Adversarial images, in the order of the images attacked.

    `images`: float32 [N, C, H, W] in [0, 1], the original where nothing was found; `queries`: int64 [N], how often
    the model was asked about each image, forward and backward passes alike; `details`: what becomes keys of the
    attack's result.
    """

    images: Tensor
    queries: Tensor
    details: Mapping[str, Any] = field(default_factory=dict)


class Perturb(Protocol):
    """The function of an attack at test time."""

    def __call__(
        self, model: Classifier, images: Tensor, labels: Tensor, params: Any, context: EvasionContext
    ) -> Perturbation:
        """Return adversarial versions of float images [N, C, H, W] in [0, 1], all classified as their `labels` now.

        White-box attacks differentiate `model.surrogate`; black-box attacks ask `model` itself, without gradients.
        Draws only from `context.rng`. The model's weights are frozen; images and model are on the same device.
        """
