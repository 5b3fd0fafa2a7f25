"""Learned trigger: a pattern and mask, optimised against the trained clean model, call the target class.

After Liu et al., Trojaning attack on neural networks, NDSS 2018: the trigger is generated from the model, then
trained in. The loss is that of a universal trigger: cross-entropy towards the target, size and total variation.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from safedl.attacks.backdoor.planting import plant
from safedl.attacks.backdoor.static_patch import patch_corner, patch_side
from safedl.attacks.contract import AttackContext, Poisoning, Trigger
from safedl.attacks.selection import check_class, check_eligible, draw
from safedl.catalog.attacks.backdoor import LearnedTriggerParams
from safedl.data.imageset import ImageSet
from safedl.models.classifier import Classifier
from safedl.models.frozen import frozen
from safedl.training.fit import to_float
from safedl.training.predict import predict

BATCH = 64
START_OPACITY = 0.5
FAINTEST = 0.05
"""Mask values below this become 0 in the end: nobody sees them, and they carry nothing."""


def poison(data: ImageSet, params: LearnedTriggerParams, context: AttackContext) -> Poisoning:
    """Return `data` with the learned trigger on `poison_fraction` of all samples.

    `trigger_asr_clean_model` in the details is the trigger's success on the clean model: what remains of the attack
    even where every poisoned sample is removed. Raises `UsageError` for a class out of range.
    """
    if context.clean_model is None:
        raise ValueError("learned_trigger needs the clean model")
    target = params.target_class
    check_class("learned_trigger.target_class", target, context.num_classes)
    others = data.labels != target
    check_eligible(others, 1.0, f"image outside class {target}")
    images = data.images[draw(others, params.trigger_samples, context.rng)]
    model = frozen(context.clean_model.to(context.device))
    trigger = optimise_trigger(model, images, params, context)
    logits = predict(model, trigger.apply(images), context.device, context.progress)
    return plant(
        data, trigger, context,
        target=target, fraction=params.poison_fraction, label_mode=params.label_mode,
        details={
            "trigger_samples": len(images),
            "trigger_asr_clean_model": float((logits.argmax(1) == target).float().mean()),
        },
    )  # fmt: skip


def optimise_trigger(
    model: Classifier, images: Tensor, params: LearnedTriggerParams, context: AttackContext
) -> Trigger:
    """Return a trigger that drives the frozen `model` towards the target class on uint8 images [N, C, H, W].

    Adam over batches minimises cross-entropy(model(x (1 - mask) + pattern mask), target) + lambda_mask |mask|_1
    + lambda_tv (TV(mask) + TV(pattern)); after each step pattern and mask are projected onto [0, 1], and the mask
    onto its square in the lower right corner.
    """
    channels, height, width = images.shape[1:]
    square = _square(height, width, params.patch_size_ratio).to(context.device)
    mask = (START_OPACITY * square).requires_grad_()
    pattern = torch.rand(channels, height, width, generator=context.rng).to(context.device).requires_grad_()
    optimizer = torch.optim.Adam([pattern, mask], params.learning_rate_trigger)
    step, steps = 0, params.epochs_trigger * math.ceil(len(images) / BATCH)
    for epoch in range(params.epochs_trigger):
        losses = 0.0
        for index in torch.randperm(len(images), generator=context.rng).split(BATCH):
            batch = to_float(images[index], context.device)
            target = torch.full((len(batch),), params.target_class, device=context.device)
            loss = F.cross_entropy(model(batch * (1 - mask) + pattern * mask), target)
            losses += float(loss.detach()) * len(batch)
            loss = loss + params.lambda_mask * mask.sum()
            loss = loss + params.lambda_tv * (total_variation(mask) + total_variation(pattern))
            pattern.grad, mask.grad = torch.autograd.grad(loss, (pattern, mask))
            optimizer.step()
            with torch.no_grad():
                pattern.clamp_(0, 1)
                mask.clamp_(0, 1).mul_(square)
            step += 1
            context.progress.step("trigger", step, steps)
        context.progress.metric("trigger.loss", epoch + 1, losses / len(images))
    visible = (mask >= FAINTEST).float()
    return Trigger((pattern * visible).detach().cpu(), (mask * visible).detach().cpu())


def total_variation(values: Tensor) -> Tensor:
    """Return the sum of absolute differences between neighbouring pixels of [C, H, W], a scalar."""
    return values.diff(dim=1).abs().sum() + values.diff(dim=2).abs().sum()


def _square(height: int, width: int, ratio: float) -> Tensor:
    """Return float [1, H, W], 1 in the lower right square whose side is `ratio` of the image's, else 0."""
    side = patch_side(height, width, ratio)
    top, left = patch_corner(height, width, side, "bottom_right")
    square = torch.zeros(1, height, width)
    square[:, top : top + side, left : left + side] = 1
    return square
