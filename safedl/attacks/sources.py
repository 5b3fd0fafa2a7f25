"""Who contributed which sample, simulated: poison comes from few contributors, who deliver clean samples too."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor

from safedl.data.imageset import ImageSet

LARGEST_POISON_SHARE = 0.75
"""A poisoned source holds at most this share of poison, as long as there are sources to spread it over."""


def assign_sources(
    data: ImageSet, mask: Tensor, rng: torch.Generator, count: int = 20, poisoned_sources: int = 2
) -> ImageSet:
    """Return `data` with a source id in [0, count) for every sample; sizes differ by one sample at most.

    `mask`: bool [N], which samples are poisoned. They are spread evenly over `poisoned_sources` sources - or over as
    many more as it takes for a quarter of each to be clean - and clean samples, drawn at random, fill up all sources.
    Which ids are poisoned is random. A data set that knows its sources keeps them.
    """
    if data.sources is not None:
        return data
    total, poisoned = len(data), int(mask.sum())
    count = max(1, min(count, total))
    sizes = _shares(total, count, count)
    needed = math.ceil(poisoned / max(1.0, LARGEST_POISON_SHARE * (total // count)))
    poison = _shares(poisoned, min(count, max(poisoned_sources, needed)), count)
    names = torch.randperm(count, generator=rng)
    sources = torch.empty(total, dtype=torch.int64)
    for members, shares in ((mask, poison), (~mask, sizes - poison)):
        ids = names.repeat_interleave(shares)
        sources[members.nonzero().flatten()] = ids[torch.randperm(len(ids), generator=rng)]
    return replace(data, sources=sources)


def _shares(total: int, parts: int, length: int) -> Tensor:
    """Return int64 [length]: `total` spread evenly over the first `parts`, the rest 0."""
    shares = torch.zeros(length, dtype=torch.int64)
    shares[:parts] = total // parts
    shares[: total % parts] += 1
    return shares
