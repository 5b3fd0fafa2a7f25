"""A box with a plot of runs that are compared: bars of a metric, curves of the training, accuracy against harm."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, cast

from rich.text import Text
from textual.app import ComposeResult
from textual.widgets import Static

from safedl.evaluation.comparison import NONE, Ranking
from tui.services import comparison as service
from tui.services import plots
from tui.services.comparison import Compared
from tui.services.plots import Point, Value
from tui.widgets.chart import Chart, Curve
from tui.widgets.pane import Box

if TYPE_CHECKING:
    from tui.app import SafedlApp

KINDS = ("bars", "curves", "plane")
MOST_CURVES = 3


class PlotBox(Box):
    """Plots the runs that it was shown last."""

    DEFAULT_CSS = """
    PlotBox Static { height: 1fr; }
    PlotBox.curves Static { display: none; }
    PlotBox Chart { display: none; }
    PlotBox.curves Chart { display: block; }
    """

    def __init__(self, *, id: str) -> None:
        super().__init__(title="Plot", id=id)
        self.kind = KINDS[0]
        self.runs: list[Compared] = []
        self.ranking: Ranking | None = None
        self.metric = ""
        self._current: Compared | None = None
        self._curves: dict[str, dict[str, list[tuple[int, float]]]] = {}
        self._curve = 0

    def compose(self) -> ComposeResult:
        """Lay text and curves in the same place; one of them is shown."""
        yield Static("", markup=False)
        yield Chart()

    @property
    def frame(self) -> SafedlApp:
        """The app."""
        return cast("SafedlApp", self.app)

    def show(self, runs: Sequence[Compared], metric: str, current: Compared | None) -> None:
        """Plot these runs: the metric under the cursor; curves begin with the run under the cursor."""
        self.runs, self.ranking = list(runs), None
        self.metric = metric
        self._current = current
        self.draw()

    def show_ranking(self, ranking: Ranking) -> None:
        """Plot what an attack does to each model of a ranking."""
        self.runs, self.ranking = [], ranking
        self.draw()

    def forget_curves(self) -> None:
        """Read curves anew when they are drawn next: those of a run that goes on have grown."""
        self._curves = {}

    def next_kind(self) -> None:
        """Show another kind of plot."""
        self.kind = KINDS[(KINDS.index(self.kind) + 1) % len(KINDS)]
        self.call_after_refresh(self.draw)

    def next_curve(self) -> None:
        """Show the next curve."""
        self._curve += 1
        self.draw()

    def on_resize(self) -> None:
        """Draw for another size."""
        self.call_after_refresh(self.draw)

    def draw(self) -> None:
        """Draw."""
        text, size = self.query_one(Static), self.content_size
        self.set_class(self.kind == "curves" and bool(self.runs), "curves")
        if self.ranking is not None:
            self._draw_ranking(self.ranking)
        elif not self.runs:
            text.update("Marked runs are plotted here.")
            self.query_one(Chart).show([])
            self.title("Plot", "v kind")
        elif self.kind == "bars":
            best = service.best_of(self.metric, self.runs)
            self._bars(self.metric, [Value(r.label, r.value(self.metric), r.record.uid in best) for r in self.runs])
        elif self.kind == "curves":
            self._draw_curves()
        else:
            self._draw_plane(text, size.width, size.height)

    def _draw_ranking(self, ranking: Ranking) -> None:
        known = {name for entry in ranking.entries for name in entry.values}
        wanted = ("adversarial_accuracy", "asr", "clean_accuracy")
        metric = next((name for name in wanted if name in known), "score.final")
        entries = [e for e in ranking.entries if e.kind != "bound"]
        names = ["undefended" if e.defense == NONE else e.defense for e in entries]
        values = [Value(name, e.mean(metric), e.place == 1) for name, e in zip(names, entries, strict=True)]
        self._bars(metric, values)

    def _bars(self, metric: str, values: Sequence[Value]) -> None:
        self.remove_class("curves")
        self.query_one(Static).update(plots.bars(values, self.content_size.width))
        self.title(f"{service.direction(metric)} {metric.removeprefix('score.')}".strip(), "v kind")

    def _draw_curves(self) -> None:
        runs = [r for r in (self._current, *self.runs) if r is not None]
        runs = list({r.record.uid: r for r in runs}.values())[:MOST_CURVES]
        wanted = [r.record.uid for r in runs if r.record.uid not in self._curves]
        if wanted:
            read = partial(service.read_curves, self.frame.workspace, wanted)
            self.frame.ask(self, "curves", read, self._take_curves, "read the curves")
            return
        names = service.curve_names({r.record.uid: self._curves[r.record.uid] for r in runs})
        name = names[self._curve % len(names)] if names else ""
        curves = [(r.label, self._curves[r.record.uid].get(name, [])) for r in runs]
        self.query_one(Chart).show([Curve(label, tuple(points)) for label, points in curves if points])
        self.title(name or "No curves", "v kind  c next curve" if len(names) > 1 else "v kind")

    def _take_curves(self, found: dict[str, dict[str, list[tuple[int, float]]]]) -> None:
        self._curves |= found
        self.draw()

    def _draw_plane(self, text: Static, width: int, height: int) -> None:
        with_asr = any(r.value("asr") is not None for r in self.runs)
        harm, label = ("asr", "ASR") if with_asr else ("adversarial_accuracy", "adversarial accuracy")
        pairs = [(r.label, r.value("clean_accuracy"), r.value(harm)) for r in self.runs]
        points = [Point(name, x, y) for name, x, y in pairs if x is not None and y is not None]
        self.title(f"clean accuracy × {label}", "v kind")
        question = partial(plots.scatter, points, "clean accuracy", label, width, height)

        def take(drawn: Text) -> None:
            if self.kind == "plane" and self.runs:  # else another plot has come meanwhile
                text.update(drawn)

        self.frame.ask(self, "plane", question, take, "draw the plot")
