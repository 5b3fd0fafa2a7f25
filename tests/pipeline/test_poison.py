"""Poison is drawn once for all defenses: what it depends on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from safedl.cache import ArtifactCache
from safedl.data.imageset import Dataset, ImageSet
from safedl.pipeline.poison import draw
from safedl.training.workbench import Workbench


def test_data_of_other_contributors_is_other_data(digits: Dataset, bench: Workbench, tmp_path: Path) -> None:
    cached = replace(bench, cache=ArtifactCache(tmp_path))

    def sources(count: int) -> int:
        train = digits.train
        known = ImageSet(train.images, train.labels, torch.arange(len(train)) % count)
        drawn = draw("label_flipping", {}, replace(digits, train=known), cached, None).data.sources
        assert drawn is not None
        return len(drawn.unique())

    assert (sources(5), sources(50), sources(5)) == (5, 50, 5)
