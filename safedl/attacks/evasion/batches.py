"""Runs an attack at test time over any number of images, and checks what it returns."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from safedl.attacks.contract import EvasionContext, Perturb, Perturbation
from safedl.catalog import AttackSpec
from safedl.models.classifier import Classifier
from safedl.models.frozen import frozen
from safedl.progress import Part
from safedl.training.fit import to_float

BATCH = 256
TOLERANCE = 1e-5
"""Rounding error of a distance, in units of the pixel range."""


def perturb_all(
    spec: AttackSpec, attack: Perturb, model: Classifier, images: Tensor, labels: Tensor, params: Any,
    context: EvasionContext, device: torch.device,
) -> Perturbation:  # fmt: skip
    """Return adversarial versions of uint8 images [N, C, H, W] with labels int64 [N], on the CPU.

    Images that the model gets wrong already stay as they are: they count as errors anyway. So do images for which
    the attack returned something outside [0, 1], outside its budget, or not finite.
    """
    model = frozen(model.to(device))
    adversarial = torch.empty(images.shape, dtype=torch.float32)
    queries = torch.zeros(len(images), dtype=torch.int64)
    details: dict[str, Any] = {"num_rejected": 0}
    starts = range(0, len(images), BATCH)
    for number, start in enumerate(starts):
        original = to_float(images[start : start + BATCH], device)
        target = labels[start : start + BATCH].to(device)
        with torch.no_grad():
            right = model(original).argmax(1) == target
        made, asked = original.clone(), torch.zeros(len(original), dtype=torch.int64, device=device)
        if right.any():
            inner = replace(context, progress=Part(context.progress, number, len(starts)))
            found = attack(model, original[right], target[right], params, inner)
            good = within(spec, params, original[right], found.images)
            details |= {**found.details, "num_rejected": details["num_rejected"] + int((~good).sum())}
            made[right] = found.images.clamp(0, 1).where(good.view(-1, 1, 1, 1), original[right])
            asked[right] = found.queries.to(device)
        adversarial[start : start + BATCH] = made.cpu()
        queries[start : start + BATCH] = asked.cpu()
        context.progress.step("attack", number + 1, len(starts))
    return Perturbation(adversarial, queries, details)


def within(spec: AttackSpec, params: Any, original: Tensor, made: Tensor) -> Tensor:
    """Return bool [N]: which of the images [N, C, H, W] are finite, in [0, 1] and within the attack's budget."""
    change = (made - original).flatten(1)
    distance = change.norm(dim=1) if spec.norm == "l2" else change.abs().amax(1)
    pixels = made.flatten(1)
    good = pixels.isfinite().all(1) & (pixels.amin(1) >= -TOLERANCE) & (pixels.amax(1) <= 1 + TOLERANCE)
    if params.epsilon is not None:
        good &= distance <= params.epsilon + TOLERANCE
    return good
