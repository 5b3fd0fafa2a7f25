"""Plots of a comparison as text."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass

from rich.text import Text

from safedl.text import one_line
from tui.services.comparison import number
from tui.services.names import apart
from tui.states import bar, sign

_LOCK = threading.Lock()
"""plotext draws into one figure of the whole process."""
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


@dataclass(frozen=True)
class Value:
    """One bar: its name, and its value, None if it was not measured."""

    name: str
    value: float | None
    best: bool = False


def bars(values: Sequence[Value], width: int) -> Text:
    """Return one line per value. Shares fill the bar at 1, others at the largest; nothing is drawn below 0."""
    known = [v.value for v in values if v.value is not None]
    full = 1.0 if all(v <= 1 for v in known) else max(known)
    names = min(max((len(v.name) for v in values), default=0), max(8, width // 3))
    lines = []
    for item, name in zip(values, apart([one_line(v.name) for v in values], names), strict=True):
        line = Text(name, no_wrap=True, end="")
        line.truncate(names, overflow="ellipsis", pad=True)
        if item.value is None:
            line.append(" not measured", style="dim")
        else:
            drawn = bar(item.value / full, max(4, width - names - 11)).replace("·", " ").rstrip()
            line.append(" ").append(drawn, style="green" if item.best else "cyan").append(" " if drawn else "")
            line.append(number(item.value)).append(f" {sign('★')}" if item.best else "")
        lines.append(line)
    return Text("\n", no_wrap=True).join(lines)


@dataclass(frozen=True)
class Point:
    """A run in the plane: its name, and its two coordinates."""

    name: str
    x: float
    y: float


def scatter(points: Sequence[Point], across: str, upwards: str, width: int, height: int) -> Text:
    """Return a scatter plot with a letter for each point, and what the letters mean. Takes a while: use a thread."""
    points = points[: len(LETTERS)]
    if not points:
        return Text(f"no run has both {across} and {upwards}", style="dim")
    labels = zip(LETTERS, apart([one_line(p.name) for p in points], width - 2), strict=False)
    legend = _legend([Text(f"{letter} {label}", no_wrap=True, end="") for letter, label in labels], width)
    import plotext

    with _LOCK:
        plotext.clear_figure()
        plotext.theme("clear")
        plotext.limit_size(False, False)
        plotext.plot_size(width, max(5, height - len(legend)))
        for letter, point in zip(LETTERS, points, strict=False):
            plotext.scatter([point.x], [point.y], marker=letter)
        for limit, values in ((plotext.xlim, [p.x for p in points]), (plotext.ylim, [p.y for p in points])):
            low, high = min(values), max(values)
            margin = max((high - low) * 0.08, 0.005)
            limit(low - margin, high + margin)
        plotext.xlabel(across)
        plotext.ylabel(upwards)
        drawn = Text.from_ansi(plotext.build().rstrip("\n"))
    drawn.no_wrap = True
    return Text("\n", no_wrap=True).join([drawn, *legend])


def _legend(names: Sequence[Text], width: int) -> list[Text]:
    """Return the names in as few lines as they fit into, each cut where it needs more than one."""
    lines: list[Text] = []
    for name in names:
        name.truncate(width, overflow="ellipsis")
        if lines and lines[-1].cell_len + name.cell_len + 2 <= width:
            lines[-1].append("  ").append_text(name)
        else:
            lines.append(name.copy())
    return lines
