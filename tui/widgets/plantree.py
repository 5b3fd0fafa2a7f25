"""The stages of an experiment as a tree."""

from __future__ import annotations

from typing import ClassVar

from rich.text import Text
from textual.binding import Binding, BindingType

from safedl.text import duration, one_line
from tui.services.follow import ExperimentState, StageState
from tui.states import bar, look
from tui.widgets.lines import Lines


class PlanTree(Lines):
    """The stages of an experiment, each with its state; the cursor says whose curves are shown."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("enter", "choose", "details")]

    def __init__(self) -> None:
        super().__init__(id="plan")
        self.state: ExperimentState | None = None
        self.stages: list[StageState] = []

    @property
    def count(self) -> int:
        """How many stages there are."""
        return len(self.stages)

    @property
    def current(self) -> StageState | None:
        """The stage under the cursor."""
        return self.stages[self.cursor] if 0 <= self.cursor < len(self.stages) else None

    def line(self, index: int, width: int) -> Text:
        """Return a stage: glyph and name, and at the right what it does or how it ended."""
        assert self.state is not None
        stage = self.stages[index]
        status = self.state.state_of(stage)
        shape = look(status)
        right = self._right(stage, status, shape.word, width)
        left = Text("›" if index == self.cursor else " ", no_wrap=True, end="")
        left.append("  " * stage.depth).append(f"{shape.glyph} ", style=shape.colour)
        room = max(0, width - right.cell_len - 1)
        fits = left.cell_len + len(stage.label) <= room
        left.append(one_line(stage.label if fits else stage.id.rpartition("/")[2].rpartition("@")[0]))
        left.truncate(room, overflow="ellipsis", pad=True)
        return left.append(" ").append_text(right)

    def _right(self, stage: StageState, status: str, word: str, width: int) -> Text:
        if status == "running":
            cells = 20 if width > 70 else 10 if width > 50 else 6
            phase = Text(one_line(stage.phase))
            phase.truncate(22 if width > 50 else 12, overflow="ellipsis")
            return phase.append(f" {bar(stage.fraction, cells)} {stage.fraction:4.0%}")
        if status == "completed" and stage.started and stage.ended:
            return Text(f"{word} {duration(stage.ended - stage.started)}")
        return Text(word, style=look(status).colour)
