"""A grid of severity by probability: each cell with a letter and a fill, the chosen one in brackets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

from rich.text import Text
from textual.binding import Binding, BindingType
from textual.message import Message
from textual.reactive import reactive
from textual.widget import Widget

from safedl.risk.assess import Band, Level, RiskAssessment, band
from safedl.text import one_line
from tui.states import unicode_works

BANDS: tuple[Band, ...] = ("low", "medium", "high")
LEVELS: tuple[Level, ...] = ("low", "medium", "high", "critical")
_FILLS = {"critical": "█", "high": "▓", "medium": "▒", "low": "░"}
_ASCII_FILLS = {"critical": "#", "high": "=", "medium": "-", "low": "."}
STYLES = {"critical": "bold red", "high": "red", "medium": "yellow", "low": ""}
Cell = tuple[int, int]
"""Severity and probability as places in BANDS."""


def badge(level: str) -> Text:
    """Return a level as its letter and a fill, so that it can be told without colour."""
    fill = (_FILLS if unicode_works() else _ASCII_FILLS)[level]
    return Text(f"{level[0].upper()}{fill}", style=STYLES[level])


def cell_of(assessment: RiskAssessment) -> Cell:
    """Return the cell in which an attack stands."""
    return BANDS.index(band(assessment.severity)), BANDS.index(band(assessment.probability))


class Matrix(Widget, can_focus=True):
    """Attacks that worked, by severity (to the right) and probability (upwards)."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("h,left", "move(-1, 0)", "Less severe", show=False),
        Binding("l,right", "move(1, 0)", "More severe", show=False),
        Binding("j,down", "move(0, -1)", "Less probable", show=False),
        Binding("k,up", "move(0, 1)", "More probable", show=False),
    ]
    cell: reactive[Cell] = reactive((2, 2))

    class Moved(Message):
        """Another cell was chosen by a key."""

        def __init__(self, cell: Cell) -> None:
            super().__init__()
            self.cell = cell

    def __init__(self) -> None:
        super().__init__(id="matrix")
        self.attacks: Mapping[Cell, Sequence[RiskAssessment]] = {}

    def show(self, assessments: Sequence[RiskAssessment]) -> None:
        """Show attacks; those that did not work have no place in the matrix."""
        cells: dict[Cell, list[RiskAssessment]] = {}
        for assessment in assessments:
            if assessment.effective:
                cells.setdefault(cell_of(assessment), []).append(assessment)
        self.attacks = cells
        self.refresh()

    def action_move(self, severity: int, probability: int) -> None:
        """Choose the next cell."""
        column, row = self.cell
        self.cell = min(2, max(0, column + severity)), min(2, max(0, row + probability))
        self.post_message(self.Moved(self.cell))

    def render(self) -> Text:
        """Draw the grid."""
        label, width = 7, max(8, (self.size.width - 8) // 3)
        height = max(2, (self.size.height - 2) // 3)
        text = Text("prob ↑ sev →" if unicode_works() else "prob ^ sev >", style="dim", no_wrap=True, end="")
        text.append("\n")
        for row in (2, 1, 0):
            lines = [Text(BANDS[row].ljust(label))] + [Text(" " * label) for _ in range(height - 1)]
            for column in range(3):
                for line, part in zip(lines, self._cell((column, row), width, height), strict=True):
                    line.append_text(part)
            for line in lines:
                text.append_text(line).append("\n")
        text.append(" " * label, style="dim")
        for name in BANDS:
            text.append(name.ljust(width), style="dim")
        return text

    def _cell(self, cell: Cell, width: int, height: int) -> list[Text]:
        """Return a cell's lines: the highest level in it and how many attacks, then their names."""
        found = sorted(self.attacks.get(cell, ()), key=lambda a: -a.risk_score)
        left, right = ("[", "]") if cell == self.cell else (" ", " ")
        head = Text(left)
        head.append_text(badge(found[0].level).append(f" {len(found)}") if found else Text("·", style="dim"))
        head.append(right)
        lines = [head, *(Text(f" {one_line(a.attack)}") for a in found)][:height]
        lines += [Text("") for _ in range(height - len(lines))]
        for line in lines:
            line.truncate(width - 1, overflow="ellipsis", pad=True)
            line.append(" ")
            if cell == self.cell and self.has_focus:
                line.stylize("reverse", 0, width - 1)
        return lines
