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
from matplotlib.figure import Figure
from matplotlib.font_manager import findfont, get_font
from matplotlib.ticker import NullLocator
from numpy.typing import NDArray

from safedl.reports.markdown import plain

FONT = "DejaVu Sans"  # comes with matplotlib
BINS = 40
STYLES: tuple[dict[str, Any], ...] = (
    {"facecolor": "#c8d3dc", "edgecolor": "#4a5a68"},
    {"facecolor": "none", "edgecolor": "#b3400f", "hatch": "////"},
    {"facecolor": "none", "edgecolor": "#1b6b3a", "hatch": "...."},
)


def histogram(series: Mapping[str, NDArray[Any]], title: str, xlabel: str) -> bytes:
    """Return a PNG of up to three series of values, drawn over each other with common bins, counts on a log scale.

    Values that are not finite are left out. `title` may come from the data; labels of series are our own words.
    """
    values = {label: _finite(data) for label, data in series.items()}
    edges = _edges(np.concatenate(list(values.values())))
    figure = Figure(figsize=(4.8, 2.7), dpi=100)
    axes = figure.subplots()
    figure.subplots_adjust(left=0.13, right=0.97, top=0.88, bottom=0.2)
    counts = {label: np.histogram(data, edges)[0] for label, data in values.items()}
    for (label, heights), style in zip(counts.items(), STYLES, strict=False):
        axes.stairs(heights, edges, fill=True, label=f"{label} ({heights.sum()})", linewidth=1, **style)
    axes.set_ylim(0.7, 3 * max(1, *(int(heights.max()) for heights in counts.values())))
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_locator(NullLocator())
    axes.set_title(drawable(title), fontsize=10, family=FONT, parse_math=False)
    axes.set_xlabel(xlabel, fontsize=9, family=FONT)
    axes.set_ylabel("samples" if len(series) > 1 else "count", fontsize=9, family=FONT)
    axes.tick_params(labelsize=8, labelfontfamily=FONT)
    if len(series) > 1:
        axes.legend(prop={"family": FONT, "size": 8}, loc="upper right")
    return render(figure)


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
