"""Reverse-engineered triggers: for each class the smallest patch that sends trusted images there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from safedl.catalog.defenses.backdoor import FEWEST_CLASSES
from safedl.data.imageset import tensor_digest
from safedl.defenses.contract import Scenario
from safedl.errors import UsageError
from safedl.models.frozen import frozen
from safedl.training.fit import to_float
from safedl.training.workbench import load_tensors, model_digest

STEPS = 150
BATCH = 16
LEARNING_RATE = 0.2
SUCCESS = 0.95
"""Share of images that a trigger must send to its class."""
FIRST_WEIGHT = 1e-3
WEIGHT_FACTOR = 1.3
ANOMALY_INDEX = 2.0
"""Deviations below the median from which a trigger is suspiciously small."""
SMALL = 0.5
"""And smaller than this multiple of the median. Attacked models have 0.04 to 0.48."""
SMALL_ALONE = 0.75
"""And than this one, where sizes are not taken relative to the reference. Attacked models have 0.07 to 0.63; of 22
clean ones that were judged, the two with a class that passed the other two rules had 0.89 and 0.98."""


@dataclass(frozen=True)
class ReversedTriggers:
    """One trigger per target class, in the order of the targets.

    `patterns`: float [T, C, H, W] and `masks`: float [T, 1, H, W], both in [0, 1]; `sizes`: float [T], the mean of each
    mask, 1 where no trigger was found.
    """

    patterns: Tensor
    masks: Tensor
    sizes: Tensor

    def apply(self, images: Tensor, position: int) -> Tensor:
        """Return float images [N, C, H, W] in [0, 1] with one of the triggers on them."""
        mask = self.masks[position].to(images.device)
        return images * (1 - mask) + self.patterns[position].to(images.device) * mask


@dataclass(frozen=True)
class SmallTriggers:
    """What the sizes of triggers tell. `suspicious`: classes, the most suspicious first; the tensors are float [K]."""

    suspicious: list[int]
    triggers: ReversedTriggers
    reference_sizes: Tensor
    ratios: Tensor
    index: Tensor


def find_small_triggers(scenario: Scenario) -> SmallTriggers:
    """Find the classes that a suspiciously small trigger can call, among triggers kept as artifacts.

    Some classes are easy to reach in any model, so sizes are taken relative to those of a reference model, trained by
    the same recipe on the trusted images alone. See `judge_sizes` for what is suspicious. Raises `UsageError` for fewer
    than `FEWEST_CLASSES` classes.
    """
    if scenario.num_classes < FEWEST_CLASSES:
        raise UsageError(
            f"the smallest triggers of the classes are compared with each other: that needs {FEWEST_CLASSES} classes "
            f"or more, and the data has {scenario.num_classes}"
        )
    found = _kept_triggers(scenario, "reverse triggers")
    reference_model = scenario.fit(scenario.trusted, phase="train reference")
    reference = _kept_triggers(replace(scenario, model=reference_model), "reverse triggers of reference")
    suspicious, ratios, index = judge_sizes(found.sizes, reference.sizes)
    return SmallTriggers(suspicious, found, reference.sizes, ratios, index)


def judge_sizes(sizes: Tensor, reference: Tensor) -> tuple[list[int], Tensor, Tensor]:
    """Return the suspicious classes, the most suspicious first, and relative sizes [K] with their anomaly index [K].

    A class is suspicious if its size over the reference's lies more than 2 robust deviations below the median, and
    below half of it, and if its size as such lies below three quarters of the median too: a reference model that has
    seen few images may find one class so hard to call that any other model looks suspicious beside it.
    """
    ratios, index = anomaly(sizes / reference)
    alone, _ = anomaly(sizes)
    suspicious = ((index > ANOMALY_INDEX) & (ratios < SMALL) & (alone < SMALL_ALONE)).nonzero().flatten().tolist()
    return sorted(suspicious, key=lambda label: float(ratios[label])), ratios, index


def anomaly(sizes: Tensor) -> tuple[Tensor, Tensor]:
    """Return each size [K] relative to the median, and how many robust deviations of the logarithm it lies below it.

    The deviation is 1.4826 times the median absolute deviation; equal sizes have index 0.
    """
    logs = sizes.log()
    below = logs.quantile(0.5) - logs  # `median` takes the lower one of two in the middle
    deviation = 1.4826 * below.abs().quantile(0.5)
    return (-below).exp(), below / deviation.clamp_min(1e-6)


def _kept_triggers(scenario: Scenario, phase: str) -> ReversedTriggers:
    """Return the triggers of all classes, from the cache where known: more than one defense asks for them."""
    bench, model = scenario.bench, scenario.model
    asked = replace(scenario, model=frozen(model.to(bench.device)))
    if bench.cache is None:
        return reverse_triggers(asked, phase=phase)

    def build(folder: Path) -> None:
        found = reverse_triggers(asked, phase=phase)
        torch.save({"patterns": found.patterns, "masks": found.masks, "sizes": found.sizes}, folder / "triggers.pt")

    trusted = tensor_digest(scenario.trusted.images, scenario.trusted.labels)
    key = bench.key(model_digest(model), trusted, bench.seed, phase)
    return ReversedTriggers(
        **bench.artifact("triggers", key, build, lambda folder: load_tensors(folder / "triggers.pt"))
    )


def reverse_triggers(
    scenario: Scenario, targets: Sequence[int] | None = None, phase: str = "reverse triggers"
) -> ReversedTriggers:
    """Optimise mask and pattern on the trusted images, for all target classes at once; None means every class.

    Wang et al.: Neural Cleanse (S&P 2019). As there, the weight of the mask's size goes up while the trigger works and
    down while it does not; what is returned is the smallest trigger that worked.
    """
    device = scenario.bench.device
    model = scenario.model.to(device).eval()
    target = torch.tensor(range(scenario.num_classes) if targets is None else targets, device=device)
    count, shape = len(target), scenario.trusted.images.shape[1:]
    images, labels = scenario.trusted.images, scenario.trusted.labels
    rng = scenario.rng(phase)
    mask_raw = torch.full((count, 1, *shape[1:]), -2.0, device=device).requires_grad_()
    pattern_raw = (torch.randn(count, *shape, generator=rng) * 0.5).to(device).requires_grad_()
    optimizer = torch.optim.Adam([mask_raw, pattern_raw], LEARNING_RATE, betas=(0.5, 0.9))
    weight = torch.full((count,), FIRST_WEIGHT, device=device)
    smoothed = torch.zeros(count, device=device)
    wanted = target.repeat_interleave(BATCH)
    best = ReversedTriggers(torch.zeros(count, *shape), torch.ones(count, 1, *shape[1:]), torch.ones(count))
    for step in range(STEPS):
        chosen = torch.randint(len(images), (BATCH,), generator=rng)
        batch, own = to_float(images[chosen], device), labels[chosen].to(device)
        others = (own.unsqueeze(0) != target.unsqueeze(1)).float()  # [T, B]
        others = others / others.sum(1, keepdim=True).clamp_min(1)
        mask, pattern = mask_raw.sigmoid(), pattern_raw.sigmoid()
        mixed = batch * (1 - mask.unsqueeze(1)) + (pattern * mask).unsqueeze(1)  # [T, B, C, H, W]
        logits = model(mixed.flatten(0, 1))
        losses = F.cross_entropy(logits, wanted, reduction="none").view(count, BATCH)
        loss = (losses * others).sum() + (weight * mask.sum((1, 2, 3))).sum()
        mask_raw.grad, pattern_raw.grad = torch.autograd.grad(loss, (mask_raw, pattern_raw))
        hits = ((logits.argmax(1) == wanted).float().view(count, BATCH) * others).sum(1)
        smoothed = 0.7 * smoothed + 0.3 * hits if step else hits
        works = smoothed >= SUCCESS
        _keep(best, works.cpu(), pattern.detach().cpu(), mask.detach().cpu())
        optimizer.step()
        weight = torch.where(works, weight * WEIGHT_FACTOR, weight / WEIGHT_FACTOR).clamp(1e-5, 1.0)
        scenario.bench.progress.step(phase, step + 1, STEPS)
    return best


def _keep(best: ReversedTriggers, works: Tensor, patterns: Tensor, masks: Tensor) -> None:
    """Take over the triggers that work and are smaller than those kept so far."""
    sizes = masks.mean((1, 2, 3))
    better = works & (sizes < best.sizes)
    best.patterns[better], best.masks[better], best.sizes[better] = patterns[better], masks[better], sizes[better]
