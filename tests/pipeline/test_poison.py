"""Poison is drawn once for all defenses: what it depends on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from safedl.cache import ArtifactCache
from safedl.data.imageset import Dataset, ImageSet
from safedl.pipeline.poison import draw
from safedl.training.workbench import Workbench
from tests.conftest import make_bench


def test_data_of_other_contributors_is_other_data(digits: Dataset, bench: Workbench, tmp_path: Path) -> None:
    cached = replace(bench, cache=ArtifactCache(tmp_path))

    def sources(count: int) -> int:
        train = digits.train
        known = ImageSet(train.images, train.labels, torch.arange(len(train)) % count)
        drawn = draw("label_flipping", {}, replace(digits, train=known), cached, None).data.sources
        assert drawn is not None
        return len(drawn.unique())

    assert (sources(5), sources(50), sources(5)) == (5, 50, 5)


def test_another_seed_draws_other_poison_from_the_same_data(digits: Dataset, tmp_path: Path) -> None:
    params = {"flip_rate": 0.2, "target_class": 1}
    benches = (replace(make_bench(digits, seed=seed), cache=ArtifactCache(tmp_path)) for seed in (0, 0, 1))
    one, again, other = (draw("label_flipping", params, digits, bench, None).mask for bench in benches)
    assert torch.equal(one, again)
    assert not torch.equal(one, other)
