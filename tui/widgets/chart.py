"""Curves in braille: quick enough to be drawn while they grow."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from rich.text import Text
from textual.widget import Widget

from safedl.text import one_line
from tui.services.names import apart

DOTS = ((0x01, 0x02, 0x04, 0x40), (0x08, 0x10, 0x20, 0x80))
"""The bits of a braille cell: two columns of four dots, from the top."""
NONE_YET = "no curves yet"
NAME = 8
"""Cells of a name that still tell something, where several share a line."""
COLOURS = ("cyan", "yellow", "magenta", "green")


@dataclass(frozen=True)
class Curve:
    """A named curve: points (step, value), steps ascending."""

    name: str
    points: Sequence[tuple[float, float]]


def draw(curves: Sequence[Curve], width: int, height: int, none: str = NONE_YET) -> list[Text]:
    """Return `height` lines: names and last values, then the curves with their axis, `width` cells wide; or `none`.

    Curves are told apart by colour and by dots: the first is solid, the second has every second dot, and so on.
    """
    curves = [Curve(c.name, [p for p in c.points if math.isfinite(p[1])]) for c in curves]
    curves = [c for c in curves if c.points]
    if not curves or height < 2 or width < 12:
        return [Text(none, style="dim")] + [Text()] * (height - 1)
    values = [v for c in curves for _, v in c.points]
    steps = [s for c in curves for s, _ in c.points]
    low, high = min(values), max(values)
    if high - low <= 1e-9 * max(abs(low), abs(high), 1e-3):  # one value, or rounding: nothing to scale by
        margin = max(0.5, abs(high) / 10)
        low, high = low - margin, high + margin
    left = max(len(_tick(low)), len(_tick(high))) + 1
    columns, rows = width - left, height - 1
    cells = [[0] * columns for _ in range(rows)]
    owner = [[0] * columns for _ in range(rows)]
    first, last = min(steps), max(steps)
    for number, curve in enumerate(curves):
        for x, (top, bottom) in _trace(curve.points, first, last, low, high, columns * 2, rows * 4).items():
            if number and x % (number + 1):
                continue
            for y in range(top, bottom + 1):
                cells[y // 4][x // 2] |= DOTS[x % 2][y % 4]
                owner[y // 4][x // 2] = number
    lines = [_legend(curves, width)]
    for row in range(rows):
        tick = _tick(high) if row == 0 else _tick(low) if row == rows - 1 else ""
        line = Text(tick.rjust(left - 1) + "┤", style="dim", no_wrap=True, end="")
        for bits, number in zip(cells[row], owner[row], strict=True):
            line.append(chr(0x2800 + bits) if bits else " ", style=COLOURS[number % len(COLOURS)])
        lines.append(line)
    return lines


def _trace(
    points: Sequence[tuple[float, float]],
    first: float, last: float, low: float, high: float, columns: int, rows: int,
) -> dict[int, tuple[int, int]]:  # fmt: skip
    """Return which rows of dots a curve covers in each column of dots; neighbours are joined."""
    spread: dict[int, tuple[float, float]] = {}
    span = (last - first) or 1
    for step, value in points:
        x = round((step - first) / span * (columns - 1))
        a, b = spread.get(x, (value, value))
        spread[x] = min(a, value), max(b, value)
    known = sorted(spread)
    for left, right in pairwise(known):
        start, end = sum(spread[left]) / 2, sum(spread[right]) / 2
        for x in range(left + 1, right):
            value = start + (end - start) * (x - left) / (right - left)
            spread[x] = value, value
    traced: dict[int, tuple[int, int]] = {}
    before: tuple[int, int] | None = None
    for x in sorted(spread):
        top, bottom = (round((high - v) / (high - low) * (rows - 1)) for v in reversed(spread[x]))
        if before is not None:  # no gaps where a curve is steep
            top, bottom = min(top, before[1] + 1), max(bottom, before[0] - 1)
        before = traced[x] = (max(0, top), min(rows - 1, bottom))
    return traced


def _legend(curves: Sequence[Curve], width: int) -> Text:
    steps = f" step {curves[0].points[-1][0]:g}"
    named = [(_tick(curve.points[-1][1]), one_line(curve.name)) for curve in curves]
    each = (width - len(steps)) // len(curves)
    room = [each - len(value) - 6 for value, _ in named]
    if min(room) >= NAME and sum(len(value) + len(name) + 6 for value, name in named) > width - len(steps):
        names = apart([name for _, name in named], min(room))
        cut = [n if len(n) <= cells else f"{n[: cells - 1]}…" for n, cells in zip(names, room, strict=True)]
        named = [(value, name) for (value, _), name in zip(named, cut, strict=True)]
    text = Text(no_wrap=True, end="")
    for number, (value, name) in enumerate(named):
        mark = "──" if number == 0 else "┄┄" if number == 1 else "··"
        text.append(f"{mark} ", style=COLOURS[number % len(COLOURS)])
        text.append(f"{value} {name}  ")
    text.truncate(max(0, width - len(steps)), pad=True)
    return text.append(steps, style="dim")


def _tick(value: float) -> str:
    return f"{value:.3g}"


class Chart(Widget):
    """A place for curves; `show` replaces them."""

    DEFAULT_CSS = """
    Chart { height: 1fr; }
    """

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._curves: tuple[Curve, ...] = ()
        self._none = NONE_YET

    def show(self, curves: Sequence[Curve], none: str = NONE_YET) -> None:
        """Draw these curves from now on; where there are none, say `none`."""
        if (tuple(curves), none) != (self._curves, self._none):
            self._curves, self._none = tuple(curves), none
            self.refresh()

    def render(self) -> Text:
        """Draw."""
        return Text("\n", no_wrap=True).join(draw(self._curves, self.size.width, self.size.height, self._none))
