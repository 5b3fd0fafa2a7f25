"""The defenses of each attack in order, as lines below the attack's heading."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from rich.text import Text
from textual.binding import Binding, BindingType

from safedl.evaluation.comparison import NONE, Entry, Ranking, told_apart
from safedl.evaluation.statistics import Estimate
from safedl.text import one_line, signed
from tui.states import sign
from tui.widgets.lines import Lines

CELL = 16
"""Cells of a value with its change."""


@dataclass(frozen=True)
class RankingLine:
    """A line: an attack's heading, or one of its entries."""

    ranking: Ranking
    entry: Entry | None = None
    attack: str = ""
    """What a heading calls its attack."""

    @property
    def runs(self) -> tuple[str, ...]:
        """The runs that the line stands for; a heading stands for the undefended model and the defenses."""
        if self.entry is not None:
            return self.entry.runs
        return tuple(uid for entry in self.ranking.entries if entry.kind != "bound" for uid in entry.runs)


class RankingLines(Lines):
    """Rankings; marks are shared with all that shows runs."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("enter", "choose", "open the run", show=False)]
    head_lines = 1

    def __init__(self, marked: set[str], *, id: str) -> None:
        super().__init__(id=id)
        self.marked = marked
        self.lines: list[RankingLine] = []

    def show(self, rankings: Sequence[Ranking]) -> None:
        """Show other rankings."""
        self.lines = []
        for ranking, attack in zip(rankings, told_apart(rankings), strict=True):
            self.lines += [RankingLine(ranking, attack=attack)]
            self.lines += [RankingLine(ranking, entry) for entry in ranking.entries]
        self.changed()

    @property
    def count(self) -> int:
        """How many lines there are."""
        return len(self.lines)

    @property
    def current(self) -> RankingLine | None:
        """The line under the cursor."""
        return self.lines[self.cursor] if 0 <= self.cursor < len(self.lines) else None

    def head(self, width: int) -> Text:
        """Return the headings."""
        text = Text("      attack", style="bold", no_wrap=True, end="")
        text.truncate(self._room(width), pad=True)
        return text.append("  final".ljust(9) + "clean accuracy".ljust(CELL) + "ASR / adv. acc.".ljust(CELL))

    def line(self, index: int, width: int) -> Text:
        """Return a heading or an entry."""
        line = self.lines[index]
        text = Text("›" if index == self.cursor else " ", no_wrap=True, end="")
        runs = set(line.runs)
        text.append("[x]" if runs and runs <= self.marked else "[-]" if runs & self.marked else "[ ]").append(" ")
        ranking, entry = line.ranking, line.entry
        if entry is None:
            text.append(one_line(line.attack), style="bold").append(f"  {one_line(ranking.note)}", style="dim")
            text.truncate(width, overflow="ellipsis")
            return text
        place = f"{entry.place}." if entry.place else "-"
        name = "undefended" if entry.defense == NONE else entry.defense
        text.append(f"{place.rjust(3)} {one_line(name)}", style="dim" if entry.kind == "bound" else "")
        first = entry.place == 1 and ranking.best is entry
        text.append(f" {sign('★')}" if first else f" ={sign('★')}" if entry.tied_with_best else "")
        text.truncate(self._room(width), overflow="ellipsis", pad=True)
        harm = "adversarial_accuracy" if ranking.category == "evasion" else "asr"
        final = entry.mean("score.final")
        text.append(("" if final is None else f"{final:7.3f}").ljust(9))
        for name in ("clean_accuracy", harm):
            text.append(_value(entry.values.get(name), entry.deltas.get(name)).ljust(CELL))
        return text

    def _room(self, width: int) -> int:
        return max(12, width - 9 - 2 * CELL)


def _value(value: Estimate | None, delta: Estimate | None) -> str:
    if value is None:
        return "-"
    return f"{value.mean:.3f}" + (f" {signed(delta.mean)}" if delta is not None else "")
