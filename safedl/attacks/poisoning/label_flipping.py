"""Label flipping: a share of the training labels is wrong (Biggio, Nelson, Laskov, ICML 2012).

The paper searches for the most harmful flips of a support vector machine; here they are drawn at random within the
chosen strategy, which is the attack of an annotator who does not know the model.
"""

from __future__ import annotations

import torch
from torch import Tensor

from safedl.attacks.contract import AttackContext, Poisoning
from safedl.attacks.selection import check_class, check_eligible, draw, poison_mask, share_of
from safedl.catalog.attacks.poisoning import LabelFlippingParams
from safedl.data.imageset import ImageSet


def poison(data: ImageSet, params: LabelFlippingParams, context: AttackContext) -> Poisoning:
    """Return `data` with `flip_rate` of the eligible labels wrong.

    Eligible are the source class (one_to_one), all but the target class (many_to_one) or all (fully_random, which
    gives any other class with equal chance). Classes that are not given are drawn. Raises `UsageError` for classes
    that do not exist, for a source class without samples, and for a rate above 0 that comes to no sample.
    """
    source, target = _classes(params, context)
    if source is not None:
        eligible, who = data.labels == source, f"sample of class {source}"
    elif target is not None:
        eligible, who = data.labels != target, f"sample outside class {target}"
    else:
        eligible, who = torch.ones(len(data), dtype=torch.bool), "sample"
    check_eligible(eligible, params.flip_rate, who)
    num_eligible = int(eligible.sum())
    index = draw(eligible, share_of(num_eligible, params.flip_rate), context.rng)

    labels = data.labels.clone()
    if target is None:
        step = torch.randint(1, context.num_classes, (len(index),), generator=context.rng)
        labels[index] = (labels[index] + step) % context.num_classes
    else:
        labels[index] = target
    sources = [source] if source is not None else [c for c in range(context.num_classes) if c != target]
    details = {
        "flipping_strategy": params.strategy,
        "flip_rate": params.flip_rate,
        "source_class": source,
        "target_class": target,
        "num_flipped": len(index),
        "num_eligible": num_eligible,
        "num_total_samples": len(data),
        "poison_rate": len(index) / max(1, len(data)),
        "flipping_map": _flipping_map(data.labels[index], labels[index], context.num_classes),
        "expected_confusion": {} if target is None else {str(c): target for c in sources},
    }
    return Poisoning(
        data.with_labels(labels), poison_mask(index, len(data)), data.labels, target_class=target, details=details
    )


def _classes(params: LabelFlippingParams, context: AttackContext) -> tuple[int | None, int | None]:
    """Return source and target class, drawn where not given; None where the strategy has none."""
    if params.strategy == "fully_random":
        return None, None
    source = params.source_class if params.strategy == "one_to_one" else None
    target = params.target_class
    for name, value in (("source_class", source), ("target_class", target)):
        if value is not None:
            check_class(f"label_flipping.{name}", value, context.num_classes)
    if target is None:
        target = _draw_class(context, other_than=source)
    if params.strategy == "one_to_one" and source is None:
        source = _draw_class(context, other_than=target)
    return source, target


def _draw_class(context: AttackContext, other_than: int | None) -> int:
    allowed = [c for c in range(context.num_classes) if c != other_than]
    return allowed[int(torch.randint(len(allowed), (), generator=context.rng))]


def _flipping_map(before: Tensor, after: Tensor, num_classes: int) -> dict[str, int]:
    """Return how many labels went from one class to another: `{"3->7": 12}`."""
    pairs, counts = (before * num_classes + after).unique(return_counts=True)
    return {
        f"{pair // num_classes}->{pair % num_classes}": count
        for pair, count in zip(pairs.tolist(), counts.tolist(), strict=True)
    }
