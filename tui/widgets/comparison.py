"""Runs side by side: a line per metric, or turned round a line per run; changes against a baseline."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.text import Text

from safedl.text import one_line
from tui.services import comparison as service
from tui.services.comparison import Compared
from tui.services.names import apart
from tui.states import sign
from tui.widgets.grid import Grid

ROOMY = 110
"""Cells from which columns may be wide."""


class ComparisonGrid(Grid):
    """The runs of a comparison, the baseline first."""

    def __init__(self, *, id: str) -> None:
        super().__init__(fixed=True, id=id)
        self.runs: list[Compared] = []
        self.baseline = ""
        self.transposed = False

    @property
    def metrics(self) -> list[str]:
        """The metrics, in the order of the table."""
        return service.metrics_of(self.runs)

    @property
    def current(self) -> Compared | None:
        """The run under the cursor."""
        place = self.cursor if self.transposed else self.column - 1
        return self.runs[place] if 0 <= place < len(self.runs) else None

    @property
    def metric(self) -> str:
        """The metric under the cursor."""
        names, place = self.metrics, self.column - 1 if self.transposed else self.cursor
        return names[place] if 0 <= place < len(names) else ""

    def show_runs(self, runs: Sequence[Compared]) -> None:
        """Show other runs; without the baseline among them, an undefended model becomes it, else the first."""
        uids = [run.record.uid for run in runs]
        if self.baseline not in uids:
            undefended = [run.record.uid for run in runs if run.record.kind == "attack"]
            self.baseline = (undefended or uids or [""])[0]
        self.runs = sorted(runs, key=lambda run: run.record.uid != self.baseline)
        self.repaint()

    def compare_with(self, run: Compared) -> None:
        """Make a run the baseline; the cursor goes with it."""
        self.baseline = run.record.uid
        self.show_runs(self.runs)
        if self.transposed:
            self.cursor = 0
        else:
            self.column = 1

    def transpose(self) -> None:
        """Turn rows into columns; the cursor stays on its cell."""
        row, column = self.cursor, self.column
        self.transposed = not self.transposed
        self.repaint()
        self.cursor, self.column = column - 1, row + 1

    def on_resize(self) -> None:
        """Follow the width."""
        self.repaint()

    def repaint(self) -> None:
        """Build the cells anew."""
        metrics = self.metrics
        best = {metric: service.best_of(metric, self.runs) for metric in metrics}
        cells = [[self._cell(metric, run, best[metric]) for run in self.runs] for metric in metrics]
        names = [f"{service.direction(metric) or ' '} {metric.removeprefix('score.')}" for metric in metrics]
        self.widest = 28 if self.size.width >= ROOMY else 17
        labels = apart([one_line(run.label) for run in self.runs], self.widest - 2)
        marks = ["= " if run.record.uid == self.baseline else "" for run in self.runs]
        heads = [mark + label for mark, label in zip(marks, labels, strict=True)]
        if self.transposed:
            cells, names, heads = [list(row) for row in zip(*cells, strict=True)], heads, names
        rows = [[Text(name), *row] for name, row in zip(names, cells, strict=True)]
        self.show(["run" if self.transposed else "metric", *heads], rows, [False, *(True for _ in heads)])

    def _cell(self, metric: str, run: Compared, best: set[str]) -> Text:
        value, base = run.value(metric), self.runs[0].value(metric)
        if value is None:
            return Text("-  ", style="dim")
        text, direction = Text(service.number(value)), service.direction(metric)
        if base is not None and run.record.uid != self.baseline:
            change = value - base
            same = not direction or abs(change) < service.SAME
            colour = "" if same else "green" if (change < 0) == (direction == "↓") else "red"
            text.append(f" {_change(change):>5}", style=colour)
        elif run.record.uid != self.baseline:
            text.append(" " * 6)
        return text.append(f" {sign('★')}" if run.record.uid in best else "  ", style="bold")

    def table(self) -> tuple[list[str], list[list[Any]]]:
        """Return columns and rows for a file: one row per run."""
        columns = ["uid", "label", "dataset", "model", "attack", "defense", "seed", *self.metrics]
        rows: list[list[Any]] = []
        for run in self.runs:
            r = run.record
            values = [run.value(metric) for metric in self.metrics]
            rows.append([r.uid, run.label, r.dataset, r.model, r.attack, r.defense, r.seed, *values])
        return columns, rows


def _change(change: float) -> str:
    if abs(change) < service.SAME:
        return "="
    return ("+" if change > 0 else "-") + service.number(abs(change)).removeprefix("0")
