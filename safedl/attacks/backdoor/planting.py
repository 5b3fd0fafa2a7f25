"""What both backdoors do once they have a trigger: put it on some training images, and label these as the target."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from safedl.attacks.contract import AttackContext, Poisoning, Trigger
from safedl.attacks.selection import check_eligible, draw, perturbation_size, poison_mask, share_of
from safedl.catalog.attacks.backdoor import LabelMode
from safedl.data.imageset import ImageSet


def plant(
    data: ImageSet,
    trigger: Trigger,
    context: AttackContext,
    *,
    target: int,
    fraction: float,
    label_mode: LabelMode,
    details: Mapping[str, Any],
) -> Poisoning:
    """Return `data` with the trigger on `fraction` of all N samples.

    corrupted: samples of other classes, which get the label `target`; clean: samples of class `target`, which keep
    it. Where fewer are eligible than asked for, all of them are poisoned, and `details` records both numbers.
    Raises `UsageError` for a fraction above 0 that comes to nobody.
    """
    corrupted = label_mode == "corrupted"
    eligible = (data.labels != target) if corrupted else (data.labels == target)
    check_eligible(eligible, fraction, f"image {'outside' if corrupted else 'of'} class {target}")
    wanted = share_of(len(data), fraction)
    index = draw(eligible, wanted, context.rng)
    if len(index) < wanted:
        context.progress.log(f"poison_fraction asks for {wanted} images; only {len(index)} are eligible")

    images, labels = data.images.clone(), data.labels.clone()
    images[index] = trigger.apply(images[index])
    labels[index] = target
    facts = {
        "target_class": target,
        "label_mode": label_mode,
        "poison_fraction": fraction,
        "num_requested": wanted,
        "num_poisoned_samples": len(index),
        "num_eligible": int(eligible.sum()),
        "num_total_samples": len(data),
        "poison_rate": len(index) / max(1, len(data)),
        **trigger_size(trigger),
        **perturbation_size(data.images[index], images[index]),
    }
    return Poisoning(
        ImageSet(images, labels, data.sources), poison_mask(index, len(data)), data.labels,
        trigger=trigger, target_class=target, details={**facts, **details},
    )  # fmt: skip


def trigger_size(trigger: Trigger) -> dict[str, float]:
    """Return how visible a trigger is.

    `trigger_pixels`: pixels that it touches (L0 of the mask); `trigger_area`: their share of the image;
    `trigger_l1`: sum of the mask; `trigger_opacity`: its largest value.
    """
    mask = trigger.mask
    return {
        "trigger_pixels": int((mask > 0).sum()),
        "trigger_area": round(float((mask > 0).float().mean()), 6),
        "trigger_l1": round(float(mask.sum()), 6),
        "trigger_opacity": round(float(mask.max()), 6),
    }
