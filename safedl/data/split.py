"""Train, trusted holdout and test: who is in which part, by seed."""

from __future__ import annotations

import torch
from torch import Tensor

TRUSTED_PER_CLASS = 20
TRUSTED_CLASS_SHARE = 0.2


def by_class(labels: Tensor, counts: dict[int, int], rng: torch.Generator) -> Tensor:
    """Return a mask bool [N] that takes `counts[c]` random samples of each class c."""
    taken = torch.zeros(len(labels), dtype=torch.bool)
    sizes = torch.bincount(labels, minlength=max(counts, default=0) + 1).tolist()
    for label, members in enumerate(labels.argsort(stable=True).split(sizes)):  # each class in the images' order
        if label in counts:
            taken[members[torch.randperm(len(members), generator=rng)[: counts[label]]]] = True
    return taken


def trusted_counts(labels: Tensor, fraction: float) -> dict[int, int]:
    """Return how many samples of each class of `labels` (int64 [N]) are held out as trusted.

    `fraction` of the class, but at least 20, and never more than a fifth of the class; 0 holds out none.
    """
    counts = {}
    for label, size in enumerate(torch.bincount(labels).tolist()):
        wanted = max(round(fraction * size), TRUSTED_PER_CLASS) if fraction else 0
        counts[label] = min(wanted, int(TRUSTED_CLASS_SHARE * size))
    return counts
