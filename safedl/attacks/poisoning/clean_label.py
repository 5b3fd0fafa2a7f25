"""Clean-label poisoning: training images are altered within a small budget, their labels stay right.

`feature_collision` is after Shafahi et al., Poison Frogs, NeurIPS 2018: an image of one class is moved in feature
space onto an image of another. An L_inf ball takes the place of the paper's penalty on the distance in pixels.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from safedl.attacks.contract import AttackContext, Poisoning
from safedl.attacks.selection import check_class, check_eligible, draw, perturbation_size, poison_mask, share_of
from safedl.catalog.attacks.poisoning import CleanLabelParams
from safedl.data.imageset import ImageSet
from safedl.models.classifier import Classifier
from safedl.models.frozen import frozen
from safedl.training.fit import to_float
from safedl.training.predict import BATCH, predict


def poison(data: ImageSet, params: CleanLabelParams, context: AttackContext) -> Poisoning:
    """Return `data` with `fraction_poison` of the target class's images (of all, where it is null) altered.

    overlay blends in an image of another class (ratio epsilon); noise adds uniform noise in [-epsilon, epsilon];
    feature_collision moves the clean model's penultimate features towards those of an image of another class, at
    most epsilon away in any pixel. For each altered class, that other class - its anchor class - is drawn once, so
    that the effect gathers where it can be measured: test images of the anchor class taken for the altered one.
    Raises `UsageError` for a class that does not exist or has no samples, and for a share above 0 that comes to none.
    """
    if context.clean_model is None:
        raise ValueError("clean_label needs the clean model")
    model = frozen(context.clean_model.to(context.device))
    target = params.target_class
    if target is not None:
        check_class("clean_label.target_class", target, context.num_classes)
    eligible = torch.ones(len(data), dtype=torch.bool) if target is None else data.labels == target
    check_eligible(eligible, params.fraction_poison, f"image of class {target}")
    index = _choose(data, eligible, model, params, context)
    anchor_class = _anchor_classes(data.labels, context)
    originals, labels = data.images[index], data.labels[index]
    anchors = data.images[_anchors(data.labels, anchor_class[labels], context)]

    details: dict[str, Any] = {}
    if params.perturbation_method == "noise":
        altered = _noise(originals, params.epsilon, context.rng)
    elif params.perturbation_method == "overlay":
        altered = torch.lerp(originals.float(), anchors.float(), params.epsilon).round().to(torch.uint8)
    else:
        altered, details = _collide(model, originals, anchors, params, context)
    if params.perturbation_method != "noise":
        details["expected_confusion"] = {str(int(anchor_class[c])): c for c in labels.unique().tolist()}
        seen = predict(model, altered, context.device, context.progress)
        details["taken_for_anchor_by_clean_model"] = _share(seen, anchor_class[labels])
    images = data.images.clone()
    images[index] = altered
    facts = {
        **params.model_dump(),
        "num_poisoned_samples": len(index),
        "num_eligible": int(eligible.sum()),
        "num_total_samples": len(data),
        "poison_rate": len(index) / max(1, len(data)),
        **perturbation_size(originals, altered),
    }
    return Poisoning(
        ImageSet(images, data.labels, data.sources), poison_mask(index, len(data)), data.labels,
        target_class=target, details={**facts, **details},
    )  # fmt: skip


def _choose(
    data: ImageSet, eligible: Tensor, model: Classifier, params: CleanLabelParams, context: AttackContext
) -> Tensor:
    """Return the positions of the images to alter: at random, or by the clean model's confidence in their class."""
    count = share_of(int(eligible.sum()), params.fraction_poison)
    if params.source_selection == "random" or not count:
        return draw(eligible, count, context.rng)
    members = eligible.nonzero().flatten()
    logits = predict(model, data.images[members], context.device, context.progress, "confidence")
    confidence = logits.double().softmax(1).gather(1, data.labels[members, None]).flatten()
    order = confidence.argsort(descending=params.source_selection == "most_confident", stable=True)
    return members[order[:count]].sort().values


def _anchor_classes(labels: Tensor, context: AttackContext) -> Tensor:
    """Return int64 [K]: for each class another one that has samples, such that no two classes share theirs."""
    present = labels.unique()
    order = present[torch.randperm(len(present), generator=context.rng)]
    anchor = torch.zeros(context.num_classes, dtype=torch.int64)
    anchor[order] = order.roll(1)
    return anchor


def _anchors(labels: Tensor, wanted: Tensor, context: AttackContext) -> Tensor:
    """Return the position of a random sample for each `wanted` class [M]."""
    sizes = torch.bincount(labels, minlength=context.num_classes)
    starts = sizes.cumsum(0) - sizes
    rank = (torch.rand(len(wanted), generator=context.rng, dtype=torch.float64) * sizes[wanted]).long()
    return labels.argsort(stable=True)[starts[wanted] + rank]


def _noise(images: Tensor, epsilon: float, rng: torch.Generator) -> Tensor:
    change = (torch.rand(images.shape, generator=rng) * 2 - 1) * epsilon * 255
    return _within(images, change, epsilon)


def _within(images: Tensor, change: Tensor, epsilon: float) -> Tensor:
    """Add a change, rounded to whole pixel values, of which the budget allows `epsilon * 255`; uint8."""
    most = math.floor(epsilon * 255 + 1e-6)
    return (images.float() + change.round().clamp(-most, most)).clamp(0, 255).to(torch.uint8)


def _collide(
    model: Classifier, images: Tensor, anchors: Tensor, params: CleanLabelParams, context: AttackContext
) -> tuple[Tensor, dict[str, Any]]:
    """Return images whose penultimate features come as near to their anchors' as the budget allows, and how near.

    Projected gradient descent on the squared distance, by the gradient's sign, from the original image.
    """
    altered = images.clone()
    batches = math.ceil(len(images) / BATCH)
    before = after = 0.0
    for number in range(batches):
        part = slice(number * BATCH, (number + 1) * BATCH)
        start = to_float(images[part], context.device)
        with torch.no_grad():
            goal = model.with_features(to_float(anchors[part], context.device))[0]
            before += float((model.with_features(start)[0] - goal).norm(dim=1).sum())
        change = torch.zeros_like(start)
        for step in range(params.max_iterations):
            change.requires_grad_()
            distance = (model.with_features(start + change)[0] - goal).square().sum()
            (gradient,) = torch.autograd.grad(distance, change)
            rate = 2.5 * params.epsilon / params.max_iterations
            change = (change.detach() - rate * gradient.sign()).clamp(-params.epsilon, params.epsilon)
            change = (start + change).clamp(0, 1) - start
            context.progress.step("collide", number * params.max_iterations + step + 1, batches * params.max_iterations)
        altered[part] = _within(images[part], (change * 255).cpu(), params.epsilon)
        with torch.no_grad():
            reached = model.with_features(to_float(altered[part], context.device))[0]
            after += float((reached - goal).norm(dim=1).sum())
    count = max(1, len(images))
    return altered, {"feature_distance_before": before / count, "feature_distance_after": after / count}


def _share(logits: Tensor, wanted: Tensor) -> float:
    return float((logits.argmax(1) == wanted).float().mean()) if len(wanted) else 0.0
