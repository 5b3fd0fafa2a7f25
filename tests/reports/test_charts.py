"""Charts can be drawn of anything, are the same bytes for the same values, and need no colour."""

from __future__ import annotations

import io
import itertools
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from PIL import Image

from safedl.reports.charts import MOST_CLASSES, Point, accuracy_harm, per_class, risk_matrix

HOSTILE = (r"$\frac{", "日本\u202e", "a\x00b\n\x1b[2J", "_hidden", "x" * 500)


def grey(png: bytes) -> Any:
    return np.asarray(Image.open(io.BytesIO(png)).convert("L"), np.int16)


@pytest.mark.filterwarnings("error")
def test_hostile_names_can_be_drawn() -> None:
    risk_matrix(dict.fromkeys(HOSTILE, (0.5, 0.5, 1.0)))
    accuracy_harm([Point(name, 0.5, 0.5, "defense", name) for name in HOSTILE], "ASR")
    per_class(HOSTILE, {HOSTILE[0]: [0.5] * 5, "attacked": [None, 0.0, 1.0, 0.2, 0.3]})


@pytest.mark.filterwarnings("error")
def test_odd_values_can_be_drawn() -> None:
    risk_matrix({})
    risk_matrix({"a": (0.0, 0.0, 0.0), "b": (1.0, 1.0, 2.0)})
    accuracy_harm([Point("a", 1.0, 1.0, "defense"), Point("b", 1.0, 1.0, "bound")], "ASR")
    per_class([], {})
    per_class(["a"], {"clean model": [None]})
    wide = Image.open(io.BytesIO(per_class([str(i) for i in range(500)], {"clean model": [0.5] * 500})))
    assert wide.width == Image.open(io.BytesIO(per_class([str(i) for i in range(MOST_CLASSES)], {}))).width


def test_charts_from_many_threads_are_the_same_bytes() -> None:
    points = [Point("a", 0.9, 0.1, "defense"), Point("none", 0.95, 0.99, "undefended")]
    with ThreadPoolExecutor(4) as pool:
        assert len(set(pool.map(lambda _: accuracy_harm(points, "ASR"), range(4)))) == 1
        assert len(set(pool.map(lambda _: risk_matrix({"a": (0.3, 0.9, 1.0)}), range(4)))) == 1


def test_kinds_of_points_differ_without_colour() -> None:
    drawn = [grey(accuracy_harm([Point("a", 0.5, 0.5, kind)], "ASR")) for kind in ("defense", "undefended", "bound")]
    assert all((a[:, :390] != b[:, :390]).any() for a, b in itertools.pairwise(drawn))


def test_series_of_bars_differ_without_colour() -> None:
    series = {"clean model": [1.0], "attacked": [1.0], "defended": [1.0]}
    drawn = grey(per_class(["0"], series))
    middle = drawn[120:180]
    # The first bar is plain, the others are hatched: within their columns rows differ.
    varied = (middle.max(0) - middle.min(0)) > 40
    assert varied.mean() > 0.2
    assert (~varied).mean() > 0.2


def test_a_point_moves_with_its_values() -> None:
    low, high = (grey(risk_matrix({"a": (x, x, 1.0)})) for x in (0.1, 0.9))
    assert (low[20:300, 70:380] != high[20:300, 70:380]).any()
