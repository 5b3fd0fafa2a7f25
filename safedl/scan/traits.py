"""What the images of a group have in common, and whether it is a trigger.

Where the subjects of many images are averaged out, what is left is what was put on all of them: a patch, a pattern
blended in, a wave over right labels. It is tried on other images, and looked for in those that detectors left outside.
"""

from __future__ import annotations

import torch
from torch import Tensor

from safedl.data.imageset import ImageSet
from safedl.defenses.contract import Scenario
from safedl.training.fit import to_float

SAMPLE = 1000
"""Images that are averaged or tried, at most."""
HALF = 0.5
"""Of what a group carries on average: an image that carries less is not taken for one of them."""
SAME = 2
"""Levels of 255 by which equal values may differ."""
RARE = 0.1
"""Share of other classes' images, or of trusted ones, with the same value in one place, from which it is natural."""
FEWEST = 4
"""Values that make a stamp: fewer may agree by chance."""
WORN = 0.9
"""Share of a stamp's values from which an image carries it, however many natural ones do: as with white corners."""
CPU = torch.device("cpu")


def class_means(data: ImageSet, clean: Tensor, num_classes: int) -> Tensor:
    """Return the mean image of each class, float [K, C, H, W] in [0, 1], over samples that are `clean` (bool [N])."""
    means = torch.zeros(num_classes, *data.images.shape[1:])
    for label in range(num_classes):
        members = (clean & (data.labels == label)).nonzero().flatten()[:SAMPLE]
        if len(members):
            means[label] = to_float(data.images[members], CPU).mean(0)
    return means


def common_trait(images: Tensor, subjects: Tensor, means: Tensor) -> Tensor:
    """Return the mean difference, float [C, H, W], between a group's images and the mean images of their subjects.

    `images`: uint8 [n, C, H, W]; `subjects`: int64 [n], the classes that a model trained without the group sees.
    """
    return (to_float(images[:SAMPLE], CPU) - means[subjects[:SAMPLE]]).mean(0)


def share_called(scenario: Scenario, trait: Tensor, label: int, clean: Tensor) -> float:
    """Return the share of other images that the model gives this class once they carry the trait, in [0, 1]."""
    others = (clean & (scenario.data.labels != label)).nonzero().flatten()
    others = others[torch.randperm(len(others), generator=scenario.rng("transplant"))[:SAMPLE]]
    if not len(others):
        return 0.0
    images = (to_float(scenario.data.images[others], CPU) + trait).clamp(0, 1)
    return float((scenario.bench.predict(scenario.model, images).argmax(1) == label).float().mean())


def amounts(images: Tensor, means: Tensor, trait: Tensor) -> Tensor:
    """Return how much of a trait images uint8 [n, C, H, W] carry, float [n]: 0 is nothing, 1 all of it.

    A matched filter: each image is a class's mean and a multiple of the trait, of that class which leaves least over.
    """
    centres, pattern = means.flatten(1), trait.flatten()
    power = pattern.square().sum().clamp_min(1e-12)
    found = []
    for some in images.split(SAMPLE):
        flat = to_float(some, CPU).flatten(1)
        along = ((flat @ pattern).unsqueeze(1) - centres @ pattern) / power
        left = torch.cdist(flat, centres).square() - along.square() * power
        found.append(along.gather(1, left.argmin(1, keepdim=True)).squeeze(1))
    return torch.cat(found)


def stamped(data: ImageSet, positions: Tensor, inside: Tensor, known: Tensor, rate: float) -> Tensor | None:
    """Return which samples of a class carry the very pixels that a group shares, bool [n], or None if it shares none.

    `positions`: int64 [n] of the class; `inside`: bool [n], the group; `known`: uint8 [m, C, H, W], the class's
    trusted images. A patch has the same values in the same places wherever it was put, which natural images hardly
    have: unlike what is blended in, it can be told from them one by one. What the class's own trusted images have
    there is natural to it, as white corners to inverted digits. A carrier has at least half of the values, and more
    of them than all but the share `rate` of other classes' images. Those of the group that are none were taken
    along by mistake.
    """
    images = data.images[positions]
    group, rest = images[inside][:SAMPLE], _other_images(data, positions)
    values = group.median(dim=0).values
    natural = torch.stack([_equal(some, values).mean(0) for some in (rest, known) if len(some)]).amax(0)
    peculiar = (_equal(group, values).mean(0) >= HALF) & (natural <= RARE)
    if int(peculiar.sum()) < FEWEST:
        return None
    usual = float(_equal(rest[:, peculiar], values[peculiar]).mean(1).quantile(1 - rate))
    carrying = _equal(images[:, peculiar], values[peculiar]).mean(1) >= min(max(HALF, usual), WORN)
    return carrying if float(carrying[inside].float().mean()) >= HALF else None


def _equal(images: Tensor, values: Tensor) -> Tensor:
    """Return 1 where uint8 images [n, ...] have the values [...], else 0, float."""
    return ((images.short() - values.short()).abs() <= SAME).float()


def _other_images(data: ImageSet, positions: Tensor) -> Tensor:
    """Return about `SAMPLE` images, fewer than twice as many, evenly spread over those not at `positions`."""
    others = torch.ones(len(data), dtype=torch.bool)
    others[positions] = False
    return data.images[others.nonzero().flatten()[:: max(1, int(others.sum()) // SAMPLE)]]


def carriers(data: ImageSet, positions: Tensor, inside: Tensor, means: Tensor, trait: Tensor, rate: float) -> Tensor:
    """Return which samples of a class carry a group's trait, bool [n].

    `positions`: int64 [n] of the class; `inside`: bool [n], the group. A carrier has at least half of what the group
    has, and more than all but the share `rate` of other classes' images.
    """
    carried = amounts(data.images[positions], means, trait)
    usual = amounts(_other_images(data, positions), means, trait)
    return carried > max(HALF * float(carried[inside].median()), float(usual.quantile(1 - rate)))
