"""Charts can be drawn of anything, are the same bytes for the same values, and need no colour."""

from __future__ import annotations

import io
import itertools
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image

from safedl.reports import charts
from safedl.reports.charts import MOST_CLASSES, Point, accuracy_harm, per_class, risk_matrix

HOSTILE = (r"$\frac{", "日本\u202e", "a\x00b\n\x1b[2J", "_hidden", "x" * 500)


FASHION = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """The figures that are drawn from now on."""
    drawn: list[Figure] = []
    render = charts.render

    def keep(figure: Figure) -> bytes:
        drawn.append(figure)
        return render(figure)

    monkeypatch.setattr(charts, "render", keep)
    return drawn


def texts(figure: Figure) -> dict[str, Any]:
    """Return where each text of a figure stands, in pixels."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    found = [t for t in figure.findobj(Text) if isinstance(t, Text) and t.get_text().strip()]
    return {t.get_text(): t.get_window_extent(canvas.get_renderer()) for t in found}


def cut_off(figure: Figure) -> list[str]:
    """Return the texts that do not lie within the figure."""
    width, height = figure.bbox.width, figure.bbox.height
    return [t for t, b in texts(figure).items() if b.x0 < 0 or b.y0 < 0 or b.x1 > width + 1 or b.y1 > height + 1]


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


def test_points_in_one_place_share_a_label(figures: list[Figure]) -> None:
    risk_matrix(dict.fromkeys("abcdefghi", (1.0, 1.0, 1.0)))
    assert "1-9" in texts(figures[0])
    risk_matrix({name: (0.2 + 0.6 * (i % 2), 1.0, 1.0) for i, name in enumerate("abcd")})
    assert {"1, 3", "2, 4"} <= set(texts(figures[1]))


def test_numbers_do_not_cover_each_other(figures: list[Figure]) -> None:
    points = [Point(str(i), 0.9 + 0.01 * (i % 4), 0.5 + 0.04 * (i // 4), "defense") for i in range(16)]
    accuracy_harm(points, "ASR")
    labels = [box for text, box in texts(figures[0]).items() if text.isdigit()]
    assert len(labels) == 16
    assert not [1 for a, b in itertools.combinations(labels, 2) if a.overlaps(b)]


@pytest.mark.parametrize("classes", [FASHION, ("speed limit 20 km per hour", "W" * 30, "x"), tuple("0123456789")])
def test_names_of_classes_are_not_cut_off(figures: list[Figure], classes: tuple[str, ...]) -> None:
    per_class(classes, dict.fromkeys(("clean model", "attacked", "activation_clustering"), [0.9] * len(classes)))
    assert cut_off(figures[0]) == []
    assert "Class" in texts(figures[0])


@pytest.mark.parametrize("number", [1, 25])
def test_the_list_beside_a_plot_is_whole(figures: list[Figure], number: int) -> None:
    note = "first, worth no more than none, tied with the first, Pareto-optimal"
    accuracy_harm([Point("activation_clustering", 0.9, 0.1 + i / 50, "defense", note) for i in range(number)], "ASR")
    assert cut_off(figures[0]) == []
    listed = " ".join(t.get_text().strip() for t in figures[0].texts)
    assert listed.count(f"activation_clustering  ({note})") == number
