from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from safedl.attacks.sources import assign_sources
from tests.attacks.helpers import random_images


def _mask(total: int, poisoned: int) -> Tensor:
    return torch.arange(total) < poisoned


def _assign(total: int, poisoned: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Return samples and poisoned samples per source."""
    mask = _mask(total, poisoned)
    sources = assign_sources(random_images(total), mask, torch.Generator().manual_seed(seed)).sources
    assert sources is not None
    return torch.bincount(sources, minlength=20), torch.bincount(sources[mask], minlength=20)


@pytest.mark.parametrize(("total", "poisoned"), [(1093, 55), (1000, 80), (1093, 0), (203, 150), (200, 199), (40, 40)])
def test_sizes_look_alike_and_all_poison_is_placed(total: int, poisoned: int) -> None:
    sizes, poison = _assign(total, poisoned)
    assert int(sizes.sum()) == total
    assert int(poison.sum()) == poisoned
    assert int(sizes.max() - sizes.min()) <= 1


def test_poison_gathers_in_two_sources_that_hold_clean_samples_too() -> None:
    sizes, poison = _assign(1093, 55)
    assert int((poison > 0).sum()) == 2
    assert (poison[poison > 0] >= 27).all()
    assert (poison < 0.75 * sizes).all()


def test_much_poison_takes_more_sources_and_leaves_a_quarter_clean() -> None:
    sizes, poison = _assign(1000, 400)
    assert int((poison > 0).sum()) == 11
    assert (poison <= 0.75 * sizes).all()


def test_which_sources_are_poisoned_is_drawn() -> None:
    def poisoned(seed: int) -> list[int]:
        return (_assign(1093, 55, seed)[1] > 0).nonzero().flatten().tolist()

    assert poisoned(3) == poisoned(3)
    assert len({tuple(poisoned(seed)) for seed in range(10)}) > 5


def test_fewer_samples_than_sources() -> None:
    sizes, poison = _assign(7, 2)
    assert sizes.sort(descending=True).values[:8].tolist() == [1] * 7 + [0]
    assert int(poison.sum()) == 2


def test_a_data_set_that_knows_its_sources_keeps_them() -> None:
    known = torch.arange(30) % 4
    data = replace(random_images(30), sources=known)
    assert assign_sources(data, _mask(30, 5), torch.Generator()).sources is known
