"""What the attacks on training data share: who is poisoned, and how far the altered images are from the originals."""

from __future__ import annotations

import torch
from torch import Tensor

from safedl.errors import UsageError


def check_class(parameter: str, value: int, num_classes: int) -> None:
    """Raise `UsageError` if class index `value` is not one of the data's."""
    if not 0 <= value < num_classes:
        raise UsageError(f"{parameter}: class {value} does not exist; allowed are 0 to {num_classes - 1}")


def check_eligible(eligible: Tensor, fraction: float, who: str) -> None:
    """Raise `UsageError` if a `fraction` above 0 is asked of nobody; `who` names the eligible (bool [N])."""
    if fraction > 0 and not eligible.any():
        raise UsageError(f"nothing to poison: the training set has no {who}")


def share_of(total: int, fraction: float) -> int:
    """Return how many a `fraction` of `total` images is. Raises `UsageError` if one above 0 comes to none."""
    count = round(fraction * total)
    if fraction > 0 and not count:
        raise UsageError(f"nothing to poison: {fraction:g} of {total} images is none; raise the rate, or set it to 0")
    return count


def draw(eligible: Tensor, count: int, rng: torch.Generator) -> Tensor:
    """Return the positions (int64, ascending) of `count` random samples among the `eligible` (bool [N]).

    More than there are means all of them.
    """
    members = eligible.nonzero().flatten()
    return members[torch.randperm(len(members), generator=rng)[:count]].sort().values


def poison_mask(index: Tensor, total: int) -> Tensor:
    """Return bool [total], true at the positions `index`."""
    mask = torch.zeros(total, dtype=torch.bool)
    mask[index] = True
    return mask


def perturbation_size(original: Tensor, altered: Tensor) -> dict[str, float]:
    """Return the distances between two sets of uint8 images [M, C, H, W], in units of the pixel range [0, 1].

    `perturbation_linf`: the largest change of any pixel; `perturbation_l2`: the mean L2 distance of an image
    from its original. Both are 0 for no images.
    """
    if not len(original):
        return {"perturbation_linf": 0.0, "perturbation_l2": 0.0}
    distances = [
        (b.float() - a.float()).div_(255) for a, b in zip(original.split(1024), altered.split(1024), strict=True)
    ]
    largest = max(float(d.abs().max()) for d in distances)
    mean = float(torch.cat([d.flatten(1).norm(dim=1) for d in distances]).mean())
    return {"perturbation_linf": round(largest, 6), "perturbation_l2": round(mean, 6)}
