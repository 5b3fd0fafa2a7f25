from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch

from safedl.attacks.contract import Poisoning
from safedl.attacks.poisoning.label_flipping import poison
from safedl.catalog.attacks.poisoning import LabelFlippingParams
from safedl.data.imageset import Dataset, ImageSet
from safedl.errors import UsageError
from safedl.training.workbench import Workbench
from tests.attacks.helpers import make_context, random_images


def _flip(data: ImageSet, seed: int = 0, **params: Any) -> Poisoning:
    return poison(data, LabelFlippingParams.model_validate(params), make_context(seed))


def test_many_to_one_flips_its_share_of_the_other_classes() -> None:
    data = random_images(1000)
    result = _flip(data, strategy="many_to_one", flip_rate=0.2, target_class=4)
    flipped = result.data.labels != data.labels
    assert torch.equal(flipped, result.mask)
    assert int(flipped.sum()) == 180 == result.details["num_flipped"]
    assert (result.data.labels[flipped] == 4).all()
    assert not (data.labels[flipped] == 4).any()
    assert torch.equal(result.original_labels, torch.arange(1000) % 10)
    assert result.target_class == 4
    assert result.trigger is None
    assert result.details["expected_confusion"] == {str(c): 4 for c in range(10) if c != 4}


def test_one_to_one_flips_its_share_of_the_source_class() -> None:
    data = random_images(1000)
    result = _flip(data, strategy="one_to_one", flip_rate=0.4, source_class=3, target_class=8)
    assert result.details["flipping_map"] == {"3->8": 40}
    assert result.details["expected_confusion"] == {"3": 8}
    assert (data.labels[result.mask] == 3).all()


def test_fully_random_gives_every_other_class_alike() -> None:
    data = random_images(9000)
    result = _flip(data, strategy="random", flip_rate=1.0)
    slow = Counter(f"{a}->{b}" for a, b in zip(data.labels.tolist(), result.data.labels.tolist(), strict=True))
    assert result.details["flipping_map"] == dict(slow)
    assert len(slow) == 90
    assert not any(pair[0] == pair[-1] for pair in slow)
    assert all(50 < count < 150 for count in slow.values())  # 100 each, standard deviation 9.4
    assert result.target_class is None
    assert result.details["expected_confusion"] == {}


@pytest.mark.parametrize("strategy", ["one_to_one", "many_to_one", "fully_random"])
def test_rate_0_changes_nothing(strategy: str) -> None:
    data = random_images(100)
    result = _flip(data, strategy=strategy, flip_rate=0)
    assert torch.equal(result.data.labels, data.labels)
    assert not result.mask.any()
    assert result.details["flipping_map"] == {}
    assert result.details["poison_rate"] == 0


def test_classes_that_are_not_given_are_drawn_by_seed() -> None:
    data = random_images(100)
    drawn = [_flip(data, seed, strategy="one_to_one", flip_rate=0.5).details for seed in range(40)]
    pairs = {(d["source_class"], d["target_class"]) for d in drawn}
    assert len(pairs) > 10
    assert all(source != target for source, target in pairs)
    assert _flip(data, 7, strategy="one_to_one", flip_rate=0.5).details == drawn[7]
    given = _flip(data, strategy="one_to_one", source_class=3).details
    assert given["source_class"] == 3


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"strategy": "many_to_one", "target_class": 99}, r"label_flipping\.target_class: class 99 .* 0 to 9"),
        ({"strategy": "one_to_one", "source_class": 10}, r"label_flipping\.source_class: class 10"),
    ],
)
def test_impossible_classes_are_refused(params: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        _flip(random_images(100), **params)


def test_a_source_class_without_samples_is_refused() -> None:
    data = random_images(90, num_classes=9)
    with pytest.raises(UsageError, match="no sample of class 9"):
        _flip(data, strategy="one_to_one", source_class=9, target_class=0)
    assert not _flip(data, strategy="one_to_one", source_class=9, target_class=0, flip_rate=0).mask.any()


def test_flipping_lowers_accuracy(digits: Dataset, bench: Workbench) -> None:
    result = _flip(digits.train, strategy="many_to_one", flip_rate=0.5, target_class=0)
    model = bench.fit(result.data, epochs=6)
    predicted = bench.predict(model, digits.test.images).argmax(1)
    assert (predicted == digits.test.labels).float().mean() < 0.9
    assert (predicted[digits.test.labels != 0] == 0).float().mean() > 0.1
