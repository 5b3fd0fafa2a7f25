"""Plots of a profile's results as PNG: risk matrix, accuracy against harm, accuracy per class.

As in `plots`: nothing is told by colour alone, names from anywhere are drawn as plain text, the same values give the
same bytes. Points carry numbers, which a list beside the plot explains, so that names never cover each other; points
that cover each other share one label.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from safedl.reports.plots import FONT, STYLES, drawable, render

MOST_CLASSES = 60
"""More bars than these cannot be read: the first classes are shown."""

LONGEST_NAME = 20
"""Longer names of classes are cut."""
LINE = 54
"""Characters that fit on a line of the list beside a plot."""

_CHARACTER, _LINE_HEIGHT, _MARKER = 0.023, 0.045, 0.03
"""Sizes of a label's characters and of a point, as parts of a plot's side."""
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
    lines = [f"{i}  {name}  (risk {score:.2f})" for i, (name, (_, _, score)) in enumerate(points.items(), 1)]
    figure, axes = _canvas(lines)
    edges = [0, 1 / 3, 2 / 3, 1]
    axes.pcolormesh(edges, edges, [[0, 1, 2], [1, 2, 3], [2, 3, 4]], cmap="Greys", vmin=0, vmax=14, zorder=0)
    _thirds(axes)
    axes.set_xlim(-0.07, 1.07)
    axes.set_ylim(-0.07, 1.07)
    _numbered(axes, [(severity, probability, "o") for severity, probability, _ in points.values()])
    _labels(axes, "Severity", "Probability")
    return render(figure)


def accuracy_harm(points: Sequence[Point], harm: str) -> bytes:
    """Return a PNG of models by clean accuracy (across) and `harm` (up): ASR, or accuracy on adversarial images."""
    lines = [f"{i}  {p.name}{f'  ({p.note})' if p.note else ''}" for i, p in enumerate(points, 1)]
    figure, axes = _canvas([*lines, "", "circle: defense   cross: undefended   triangle: bound"])
    axes.set_xlim(_limits([point.accuracy for point in points]))
    axes.set_ylim(_limits([point.harm for point in points]))
    _numbered(axes, [(point.accuracy, point.harm, _MARKERS[point.kind]) for point in points])
    axes.grid(color="0.85", linewidth=0.6)
    _labels(axes, "Clean accuracy", harm)
    return render(figure)


def per_class(classes: Sequence[str], series: Mapping[str, Sequence[float | None]]) -> bytes:
    """Return a PNG of bars: one group per class, one bar per series (at most three), values in [0, 1] or none."""
    shown = list(classes)[:MOST_CLASSES]
    names = [drawable(c, LONGEST_NAME) for c in shown]
    upright = any(len(name) > 4 for name in names)
    height = 2.5 + 0.075 * max(map(len, names)) if upright else 2.7
    figure = Figure(figsize=(max(4.8, 0.42 * len(shown) + 1.2), height), dpi=100, layout="constrained")
    axes = figure.subplots()
    width = 0.8 / max(1, len(series))
    for i, ((name, values), style) in enumerate(zip(series.items(), STYLES, strict=False)):
        known = [(x, v) for x, v in enumerate(list(values)[: len(shown)]) if v is not None]
        places = [x - 0.4 + width * (i + 0.5) for x, _ in known]
        axes.bar(places, [v for _, v in known], width, label=drawable(name, 40), linewidth=1, **style)
    axes.set_xticks(range(len(shown)), names, rotation=90 if upright else 0)
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


def _canvas(lines: Sequence[str]) -> tuple[Figure, Axes]:
    """Return a figure with a square plot, and on its right a list that is shown whole: the figure grows with it."""
    listed = [part for line in lines for part in _wrapped(line)]
    step = min(0.2, max(0.16, 3.1 / max(1, len(listed))))  # inches
    height = max(3.8, step * len(listed) + 0.3)
    figure = Figure(figsize=(7.6, height), dpi=100)
    axes = figure.add_axes((0.09, 1 - 3.27 / height, 0.41, 3.12 / height))
    for i, line in enumerate(listed):
        y = 1 - (0.15 + i * step) / height
        figure.text(0.53, y, line, fontsize=8, family=FONT, va="top", parse_math=False)
    return figure, axes


def _wrapped(line: str) -> list[str]:
    return textwrap.wrap(drawable(line, 200), LINE, subsequent_indent="     ", break_on_hyphens=False) or [""]


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
    """Draw points (x, y, marker) with their numbers, each label where it is farthest from what is there already."""
    (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
    places = [((x - left) / (right - left), (y - bottom) / (top - bottom)) for x, y, _ in points]
    for (x, y), (_, _, marker) in zip(places, points, strict=True):
        axes.plot(
            [x], [y], marker, color="#1f3b57", markersize=6, markerfacecolor="white", markeredgewidth=1.4, zorder=3,
            transform=axes.transAxes,
        )  # fmt: skip
    taken = [(x, y, _MARKER, _MARKER) for x, y in places]
    for members in _together(places):
        text = textwrap.fill(_numbers(members), 12)
        lines = text.splitlines()
        width, height = _CHARACTER * max(map(len, lines)), _LINE_HEIGHT * len(lines)
        x, y = places[members[0]]
        reach = _MARKER / 2 + 0.015
        around = [
            (x + (reach + width / 2) * math.cos(turn), y + (reach + height / 2) * math.sin(turn), width, height)
            for turn in _TURNS
        ]
        others = [box for i, box in enumerate(taken) if i not in members]
        best = max(around, key=lambda box: (_within(box), min((_gap(box, other) for other in others), default=1.0)))
        taken.append(best)
        axes.text(
            *best[:2], text, fontsize=8, family=FONT, ha="center", va="center", zorder=4, transform=axes.transAxes
        )


def _together(places: Sequence[tuple[float, float]]) -> list[list[int]]:
    """Return the positions of places, those in one list that cover each other."""
    groups: list[list[int]] = []
    for i, place in enumerate(places):
        near = (group for group in groups if math.dist(places[group[0]], place) < _MARKER)
        group = next(near, None)
        if group is None:
            groups.append([i])
        else:
            group.append(i)
    return groups


def _numbers(positions: Sequence[int]) -> str:
    """Return the numbers of positions, which count from 1, with three or more in a row as a range."""
    runs: list[list[int]] = []
    for number in (position + 1 for position in positions):
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    words = [[f"{run[0]}-{run[-1]}"] if len(run) > 2 else [str(number) for number in run] for run in runs]
    return ", ".join(word for group in words for word in group)


Box = tuple[float, float, float, float]
"""Middle (x, y), width and height."""


def _gap(one: Box, other: Box) -> float:
    """Return how far two boxes are apart; 0 where they touch."""
    across = abs(one[0] - other[0]) - (one[2] + other[2]) / 2
    up = abs(one[1] - other[1]) - (one[3] + other[3]) / 2
    return math.hypot(max(0.0, across), max(0.0, up))


def _within(box: Box) -> bool:
    x, y, width, height = box
    return width / 2 <= x <= 1 - width / 2 and height / 2 <= y <= 1 - height / 2


def _labels(axes: Axes, x: str, y: str) -> None:
    axes.set_xlabel(x, fontsize=9, family=FONT)
    axes.set_ylabel(y, fontsize=9, family=FONT)
    axes.tick_params(labelsize=8, labelfontfamily=FONT)
