"""Pictures show the pixels they are given, and are the same bytes for the same values."""

from __future__ import annotations

import io
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from safedl.reports.images import GAP, grid, overlay, to_uint8
from safedl.reports.plots import Series, drawable, histograms
from tests.reports.samples import image


def pixels(png: bytes) -> Any:
    return np.asarray(Image.open(io.BytesIO(png)))


@pytest.mark.parametrize(("side", "factor"), [(4, 32), (28, 5), (32, 4), (100, 2), (224, 1)])
def test_small_images_are_enlarged_by_whole_numbers(side: int, factor: int) -> None:
    shown = pixels(grid([image(200, side=side)]))
    assert shown.shape == (side * factor, side * factor, 3)
    assert (shown[:, : side * factor // 2] == 0).all()
    assert (shown[:, side * factor // 2 :] == 200).all()


def test_colours_keep_their_place() -> None:
    red = np.zeros((3, 8, 8), np.uint8)
    red[0] = 250
    assert (pixels(grid([red])) == [250, 0, 0]).all()


def test_two_channels_are_shown_as_grey() -> None:
    both = np.stack([np.full((8, 8), 100, np.uint8), np.full((8, 8), 200, np.uint8)])
    assert (pixels(grid([both])) == 150).all()


def histogram(series: Series, title: str = "t") -> bytes:
    """Draw one picture alone."""
    return histograms({title: series}, "x")[0]


def test_images_stand_in_rows() -> None:
    shown = pixels(grid([image(v, side=128) for v in (10, 20, 30)], columns=2))
    assert shown.shape == (2 * 128 + GAP, 2 * 128 + GAP, 3)
    assert shown[0, -1, 0] == 20
    assert shown[-1, 127, 0] == 30
    assert (shown[128 + GAP :, 128 + GAP :] == 255).all()
    assert (shown[:, 128 : 128 + GAP] == 255).all()


def test_overlay_blends_by_the_mask() -> None:
    trigger, mask = np.ones((1, 4, 4)), np.zeros((1, 4, 4))
    mask[0, 0, 0], mask[0, 1, 1] = 1.0, 0.5
    shown = overlay(image(0), trigger, mask)
    assert shown[0, 0, 0] == 255
    assert shown[0, 1, 1] == 128
    assert shown.sum() == 255 + 128
    assert to_uint8(np.array([-1.0, 0.0, 1.0, 2.0])).tolist() == [0, 0, 255, 255]


def test_png_carries_no_date_or_version() -> None:
    plot = histogram({"values": np.arange(5.0)})
    assert Image.open(io.BytesIO(grid([image(1)]))).info == {}
    assert set(Image.open(io.BytesIO(plot)).info) <= {"dpi"}


def test_plots_from_many_threads_are_the_same_bytes() -> None:
    rng = np.random.default_rng(0)
    series = {"clean": rng.normal(size=200), "poisoned": rng.normal(size=20) + 4}
    expected = histogram(series, "class $x$")
    with ThreadPoolExecutor(4) as pool:
        assert set(pool.map(lambda _: histogram(series, "class $x$"), range(8))) == {expected}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    "values",
    [[], [np.nan, np.inf], [0.0], [1.0, np.nextafter(1.0, 2)], [1e300, 1e300], [-1e-12, 1e-12], [3, 3, 3]],
)
def test_odd_values_can_be_plotted(values: list[float]) -> None:
    assert pixels(histogram({"clean": np.array(values), "poisoned": np.empty(0)})).shape[2] >= 3


@pytest.mark.filterwarnings("error")
def test_hostile_titles_can_be_plotted() -> None:
    for title in (r"$\frac{", "日本\u202e", "a\x00b\n\x1b[2J", "_hidden", "x" * 500):
        histogram({"values": np.arange(3)}, title)
    assert drawable("é日$") == "é?$"


def test_histograms_of_one_call_share_their_axes_and_nothing_else() -> None:
    """A picture holds its own values only, at the place that they have on the scale of all."""
    near, far, middle = (np.full(50, value) for value in (0.0, 10.0, 5.0))

    def draw(first: NDArray[np.float64], others: NDArray[np.float64]) -> list[bytes]:
        return histograms({"a": {"values": first}, "b": {"values": middle}, "c": {"values": others}}, "x")

    one, other = draw(near, far), draw(far, near)
    plot = np.s_[40:]  # the titles stand above
    assert one[1] == other[1]
    assert (pixels(one[0])[plot] == pixels(other[2])[plot]).all()
    assert (pixels(one[0])[plot] != pixels(one[2])[plot]).any()
    assert one[1] != histogram({"values": middle}, "b")
    assert histograms({}, "x") == []


def test_series_are_told_apart_without_colour() -> None:
    values = np.repeat(np.linspace(0, 1, 40), 50)
    grey = [np.asarray(Image.open(io.BytesIO(histogram(s))).convert("L"), np.int16) for s in (
        {"clean": values, "poisoned": np.empty(0)}, {"clean": np.empty(0), "poisoned": values},
    )]  # fmt: skip
    inside = np.s_[150:200, 200:240]  # below the tops of the bars
    assert len(np.unique(grey[0][inside])) == 1  # plain
    assert len(np.unique(grey[1][inside])) > 1  # hatched
