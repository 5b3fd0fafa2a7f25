from __future__ import annotations

import pytest
import torch

from safedl.attacks.selection import check_class, check_eligible, draw, perturbation_size, poison_mask, share_of
from safedl.errors import UsageError


def _rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_draw_takes_only_the_eligible_once_each() -> None:
    eligible = torch.arange(100) % 3 == 0
    index = draw(eligible, 20, _rng())
    assert len(index) == 20 == len(index.unique())
    assert eligible[index].all()
    assert draw(eligible, 20, _rng(1)).tolist() != index.tolist()


def test_draw_of_more_than_there_are_takes_all() -> None:
    eligible = torch.tensor([True, False, True])
    assert draw(eligible, 5, _rng()).tolist() == [0, 2]


def test_asking_of_nobody_is_an_error_unless_nothing_is_asked() -> None:
    nobody = torch.zeros(4, dtype=torch.bool)
    check_eligible(nobody, 0.0, "image of class 7")
    check_eligible(~nobody, 0.1, "image of class 7")
    with pytest.raises(UsageError, match="no image of class 7"):
        check_eligible(nobody, 0.1, "image of class 7")


@pytest.mark.parametrize(("fraction", "total", "count"), [(0.0, 3, 0), (0.05, 1000, 50), (0.2, 3, 1), (1.0, 3, 3)])
def test_share_of_the_images(fraction: float, total: int, count: int) -> None:
    assert share_of(total, fraction) == count


def test_a_rate_that_poisons_nobody_is_an_error() -> None:
    """An attack that did nothing would be taken for one that the model withstands."""
    with pytest.raises(UsageError, match=r"0\.08 of 5 images is none; raise the rate"):
        share_of(5, 0.08)


def test_poison_mask() -> None:
    assert poison_mask(torch.tensor([0, 3]), 4).tolist() == [True, False, False, True]


@pytest.mark.parametrize("value", [-1, 10])
def test_check_class_names_parameter_and_range(value: int) -> None:
    check_class("a.b", 9, 10)
    with pytest.raises(UsageError, match=rf"a\.b: class {value} .* 0 to 9"):
        check_class("a.b", value, 10)


def test_perturbation_size_in_units_of_the_pixel_range() -> None:
    before = torch.zeros(2, 1, 2, 2, dtype=torch.uint8)
    after = before.clone()
    after[0, 0, 0, 0], after[0, 0, 0, 1] = 153, 204  # an L2 distance of 255 * (0.6, 0.8) = 255
    assert perturbation_size(before, after) == {"perturbation_linf": 0.8, "perturbation_l2": 0.5}
    assert perturbation_size(before[:0], after[:0]) == {"perturbation_linf": 0.0, "perturbation_l2": 0.0}
