"""Plots as PNG. Series differ in hatch and label, not by colour alone; the same values give the same bytes.

Several stages draw at once, so only what is safe in threads is used: `Figure` instead of pyplot, and no
mathematical typesetting, whose parser keeps state; that also keeps `$` in a class name harmless.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from functools import cache
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import findfont, get_font
from matplotlib.ticker import NullLocator
from numpy.typing import NDArray

from safedl.reports.images import encode_png
from safedl.reports.markdown import plain

FONT = "DejaVu Sans"  # comes with matplotlib
BINS = 40
Series = Mapping[str, NDArray[Any]]
"""Values by what they are."""
STYLES: tuple[dict[str, Any], ...] = (
    {"facecolor": "#c8d3dc", "edgecolor": "#4a5a68"},
    {"facecolor": "none", "edgecolor": "#b3400f", "hatch": "////"},
    {"facecolor": "none", "edgecolor": "#1b6b3a", "hatch": "...."},
)


def histograms(plots: Mapping[str, Series], xlabel: str) -> list[bytes]:
    """Return a PNG for each title: up to three series of values drawn over each other, counts on a log scale.

    All have the same bins and axes, so that they can be compared, and series of the same labels. Values that are not
    finite are left out. Titles may come from the data; labels of series are our own words.
    """
    if not plots:
        return []
    values = {title: {label: _finite(data) for label, data in series.items()} for title, series in plots.items()}
    edges = _edges(np.concatenate([data for series in values.values() for data in series.values()]))
    counts = {
        title: {label: np.histogram(data, edges)[0] for label, data in series.items()}
        for title, series in values.items()
    }
    highest = max(1, *(int(heights.max()) for series in counts.values() for heights in series.values()))
    labels = list(next(iter(plots.values())))
    figure = Figure(figsize=(4.8, 2.7), dpi=100)
    canvas: Any = FigureCanvasAgg(figure)  # what it does is not typed
    axes = figure.add_axes((0.13, 0.2, 0.84, 0.68))
    bars = [
        axes.stairs(np.zeros(BINS), edges, fill=True, label=label, linewidth=1, **style)
        for label, style in zip(labels, STYLES, strict=False)
    ]
    axes.set_ylim(0.7, 0.7 * (highest / 0.7) ** 1.25)  # a fifth of the height is left for the legend
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_locator(NullLocator())
    heading = axes.set_title("", fontsize=10, family=FONT, parse_math=False)
    axes.set_xlabel(xlabel, fontsize=9, family=FONT)
    axes.set_ylabel("samples" if len(labels) > 1 else "count", fontsize=9, family=FONT)
    axes.tick_params(labelsize=8, labelfontfamily=FONT)
    if len(labels) > 1:
        axes.legend(prop={"family": FONT, "size": 8}, loc="upper right", ncols=len(labels), frameon=False)
    # Axes are drawn once and only what differs upon them: one figure for each picture takes five times as long.
    changing = (*bars, heading)
    for artist in changing:
        artist.set_animated(True)
    canvas.draw()
    empty = canvas.copy_from_bbox(figure.bbox)
    drawn = []
    for title, series in counts.items():
        canvas.restore_region(empty)
        for stairs, heights in zip(bars, series.values(), strict=True):
            stairs.set_data(heights)
        sizes = ", ".join(f"{heights.sum()} {label}" for label, heights in series.items())
        heading.set_text(f"{drawable(title, 40)}: {sizes}")
        for artist in changing:
            axes.draw_artist(artist)
        drawn.append(encode_png(np.asarray(canvas.buffer_rgba())[:, :, :3]))
    return drawn


def render(figure: Figure) -> bytes:
    """Return a figure as PNG without date or version in its metadata."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def drawable(text: str, limit: int = 60) -> str:
    """Return text from anywhere as one line that the plots' font can draw; other characters become `?`."""
    return "".join(c if ord(c) in _glyphs() else "?" for c in plain(text, limit))


@cache
def _glyphs() -> frozenset[int]:
    return frozenset(get_font(findfont(FONT)).get_charmap())


def _edges(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the bins' edges; values that are all (almost) equal stand in the middle."""
    low, high = (float(values.min()), float(values.max())) if len(values) else (0.0, 1.0)
    size = max(abs(low), abs(high))
    if high - low <= 1e-9 * size:
        low, high = low - (size or 1) / 2, high + (size or 1) / 2
    return np.linspace(low, high, BINS + 1)


def _finite(values: NDArray[Any]) -> NDArray[np.float64]:
    flat = np.asarray(values, np.float64).ravel()
    return flat[np.isfinite(flat)]
