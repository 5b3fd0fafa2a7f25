"""Plots of a profile's results as PNG: risk matrix, accuracy against harm, accuracy per class.

As in `plots`: nothing is told by colour alone, names from anywhere are drawn as plain text, the same values give the
same bytes. Points carry numbers, which a list beside the plot explains, so that names never cover each other.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from safedl.reports.plots import FONT, STYLES, drawable, render

MOST_CLASSES = 60
"""More bars than these cannot be read: the first classes are shown."""

_TURNS = [math.pi * (2 * i + 1) / 8 for i in range(8)]
_MARKERS = {"defense": "o", "undefended": "X", "bound": "^"}


@dataclass(frozen=True)
class Point:
    """A model in a plot of accuracy against harm, both in [0, 1]; `best` and `pareto` are said in the list."""

    name: str
    accuracy: float
    harm: float
    kind: Literal["defense", "undefended", "bound"]
    note: str = ""


def risk_matrix(points: Mapping[str, tuple[float, float, float]]) -> bytes:
    """Return a PNG of attacks by severity (across) and probability (up), both in [0, 1], in thirds.

    `points`: severity, probability and risk score (in [0, 2]) by attack.
    """
    figure, axes, side = _canvas()
    edges = [0, 1 / 3, 2 / 3, 1]
    axes.pcolormesh(edges, edges, [[0, 1, 2], [1, 2, 3], [2, 3, 4]], cmap="Greys", vmin=0, vmax=14, zorder=0)
    _thirds(axes)
    axes.set_xlim(-0.07, 1.07)
    axes.set_ylim(-0.07, 1.07)
    _numbered(axes, [(severity, probability, "o") for severity, probability, _ in points.values()])
    _labels(axes, "Severity", "Probability")
    _listed(side, [f"{i}  {name}  (risk {score:.2f})" for i, (name, (_, _, score)) in enumerate(points.items(), 1)])
    return render(figure)


def accuracy_harm(points: Sequence[Point], harm: str) -> bytes:
    """Return a PNG of models by clean accuracy (across) and `harm` (up): ASR, or accuracy on adversarial images."""
    figure, axes, side = _canvas()
    axes.set_xlim(_limits([point.accuracy for point in points]))
    axes.set_ylim(_limits([point.harm for point in points]))
    _numbered(axes, [(point.accuracy, point.harm, _MARKERS[point.kind]) for point in points])
    lines = [f"{i}  {p.name}{f'  ({p.note})' if p.note else ''}" for i, p in enumerate(points, 1)]
    axes.grid(color="0.85", linewidth=0.6)
    _labels(axes, "Clean accuracy", harm)
    _listed(side, [*lines, "", "circle: defense   cross: undefended   triangle: bound"])
    return render(figure)


def per_class(classes: Sequence[str], series: Mapping[str, Sequence[float | None]]) -> bytes:
    """Return a PNG of bars: one group per class, one bar per series (at most three), values in [0, 1] or none."""
    shown = list(classes)[:MOST_CLASSES]
    figure = Figure(figsize=(max(4.8, 0.42 * len(shown) + 1.2), 3.0), dpi=100)
    axes = figure.subplots()
    figure.subplots_adjust(left=0.8 / figure.get_figwidth(), right=0.99, top=0.84, bottom=0.27)
    width = 0.8 / max(1, len(series))
    for i, ((name, values), style) in enumerate(zip(series.items(), STYLES, strict=False)):
        known = [(x, v) for x, v in enumerate(list(values)[: len(shown)]) if v is not None]
        places = [x - 0.4 + width * (i + 0.5) for x, _ in known]
        axes.bar(places, [v for _, v in known], width, label=drawable(name, 40), linewidth=1, **style)
    axes.set_xticks(range(len(shown)), [drawable(c, 12) for c in shown], rotation=90 if _long(shown) else 0)
    for label in axes.get_xticklabels():
        label.set_parse_math(False)
    axes.set_xlim(-0.6, len(shown) - 0.4)
    axes.set_ylim(0, 1.02)
    _labels(
        axes, "Class" if len(shown) == len(classes) else f"First {len(shown)} of {len(classes)} classes", "Accuracy"
    )
    if series:
        axes.legend(
            prop={"family": FONT, "size": 8}, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3, frameon=False
        )
    return render(figure)


def _canvas() -> tuple[Figure, Axes, Axes]:
    """Return a figure with a square plot and room for a list on its right."""
    figure = Figure(figsize=(7.6, 3.8), dpi=100)
    axes = figure.add_axes((0.09, 0.14, 0.41, 0.82))
    side = figure.add_axes((0.53, 0.14, 0.46, 0.82))
    side.set_axis_off()
    return figure, axes, side


def _thirds(axes: Axes) -> None:
    for edge in (1 / 3, 2 / 3):
        axes.axhline(edge, color="0.4", linewidth=0.8, linestyle=":")
        axes.axvline(edge, color="0.4", linewidth=0.8, linestyle=":")
    for middle, word in zip((1 / 6, 1 / 2, 5 / 6), ("low", "medium", "high"), strict=True):
        axes.text(middle, 0.0, word, ha="center", va="bottom", fontsize=8, family=FONT, color="0.35")
        axes.text(0.0, middle, word, ha="left", va="center", fontsize=8, family=FONT, color="0.35", rotation=90)


def _limits(values: Sequence[float]) -> tuple[float, float]:
    """Return the range of an axis: what the values span, at least 0.1, with a margin for the numbers."""
    low, high = min(values), max(values)
    spare = max(0.0, 0.1 - (high - low)) / 2
    margin = 0.15 * (high - low + 2 * spare)
    return low - spare - margin, high + spare + margin


def _numbered(axes: Axes, points: Sequence[tuple[float, float, str]]) -> None:
    """Draw points (x, y, marker) with their numbers, each where it is farthest from what is there already."""
    (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
    taken = [((x - left) / (right - left), (y - bottom) / (top - bottom)) for x, y, _ in points]
    places = list(taken)
    for number, ((x, y), (_, _, marker)) in enumerate(zip(places, points, strict=True), start=1):
        axes.plot(
            [x], [y], marker, color="#1f3b57", markersize=6, markerfacecolor="white", markeredgewidth=1.4, zorder=3,
            transform=axes.transAxes,
        )  # fmt: skip
        around = [(x + 0.045 * math.cos(turn), y + 0.045 * math.sin(turn)) for turn in _TURNS]
        others = [place for i, place in enumerate(taken) if i != number - 1]
        best = max(around, key=lambda place: min((math.dist(place, other) for other in others), default=1.0))
        taken.append(best)
        axes.text(
            *best, str(number), fontsize=8, family=FONT, ha="center", va="center", zorder=4, transform=axes.transAxes
        )


def _labels(axes: Axes, x: str, y: str) -> None:
    axes.set_xlabel(x, fontsize=9, family=FONT)
    axes.set_ylabel(y, fontsize=9, family=FONT)
    axes.tick_params(labelsize=8, labelfontfamily=FONT)


def _listed(side: Axes, lines: Sequence[str]) -> None:
    step = min(0.075, 1 / max(1, len(lines)))
    for i, line in enumerate(lines):
        side.text(0, 1 - i * step, drawable(line), fontsize=8, family=FONT, va="top", parse_math=False)


def _long(names: Sequence[str]) -> bool:
    return any(len(name) > 4 for name in names)
