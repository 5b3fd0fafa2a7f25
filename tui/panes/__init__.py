"""The app's panes.

**A new pane** is one file with one subclass of `tui.widgets.pane.Pane`, and one line in `PANES` below
(number key, name, title, `module:Class`). It is imported at its first visit.

A pane composes `Box`es (titled frames; `z` lets the one with the focus fill the pane; put boxes that stand side by
side into a `Horizontal(classes="row")`), and has
- `BINDINGS`: `show=True` for the few keys that belong into the last line (those of the widget with the focus come
  first); all others `show=False`: they stand there too where there is room, if they are short. Each is a command in the
  palette and a line of the help by itself, so it needs a description.
- `HELP`: what the pane is for, in three or four lines. A widget may have its own.
- `status`: the sentence above the last line; set it, the app shows it.
- the edited profile, if it is about that: `tui.panes.editing.EditingPane` has draft, lists, changing, undo, running.
- `opened()`: called whenever the pane comes to the front. Focus what comes first, read what may have changed.
- `tick()`: called five times a second while the pane is in front and no dialog stands before it. Repaint only what has
  changed (`ExperimentState.version`).

**What a pane may ask** (`self.frame` is the app):
- `frame.workspace`, the front desk. Everything that is done goes through it, so that it has its twin in the CLI.
- `frame.ask(self, "group", question, then, "read the runs")`: `question()` runs in a thread and may import
  SQLAlchemy, numpy or Pillow there (import inside the function, never at the top of the file); `then(answer)` is
  called in the app. An error opens a dialog "Could not read the runs", why, what next. A later question of the same
  group replaces an earlier one.
- `frame.hub.follow(uid)`: the live state of an experiment; `frame.hub.running`: the uids of those that run.
- `frame.marked` (uids of marked runs; call `frame.remember_marks()` after a change),
  `frame.memory.get/set(name, value)` for what is remembered between starts, `frame.copy(text)`, `frame.say(text)`,
  `frame.clock()` instead of the time.
- `await frame.action_go("runs")`, `await frame.open_run(uid)`, `await frame.open_review(uid)`; `frame.specs`
  tells which panes exist.

**Widgets** (`tui.widgets`): `Table` (any number of rows, marks, keys), `Lines` (its base, for trees and lists),
`LogView`, `Chart` (curves), `half_blocks` (pictures), `FilterBar` (`/`, waits until typing pauses), `Dialog`,
`Picker`, `error_dialog`; `tui.states.look(status)` gives glyph, word, colour; `bar(fraction, width)` a bar.
All have vim keys beside arrows. Foreign text goes through `Text(...)` or `markup=False`, and through
`safedl.text.one_line` or `printable` if it may hold control characters.

**Tests** (`tests/tui`): `app_on(workspace, size)` of `conftest.py` runs the app with a frozen clock;
`await until(lambda: ...)` waits for a condition, never for a time; `golden(app, "name")` compares the screen's text
with `golden/<name>_<columns>x<rows>.txt`; `SAFEDL_GOLDEN=write pytest tests/tui` writes those files anew.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module

from tui.widgets.pane import Pane


@dataclass(frozen=True)
class PaneSpec:
    """A pane: its number key, name, title, and the class, which is imported when the pane is first opened."""

    key: str
    name: str
    title: str
    where: str

    def make(self) -> Pane:
        """Import and build the pane."""
        module, _, kind = self.where.partition(":")
        pane: Pane = getattr(import_module(module), kind)(id=self.name)
        return pane


PANES = (
    PaneSpec("1", "profile", "Profile", "tui.panes.profile:ProfilePane"),
    PaneSpec("2", "risk", "Risk", "tui.panes.risk:RiskPane"),
    PaneSpec("3", "defenses", "Defenses", "tui.panes.defenses:DefensesPane"),
    PaneSpec("4", "run", "Run", "tui.panes.run:RunPane"),
    PaneSpec("5", "runs", "Runs", "tui.panes.runs:RunsPane"),
    PaneSpec("6", "compare", "Compare", "tui.panes.compare:ComparePane"),
    PaneSpec("7", "ship", "Ship", "tui.panes.ship:ShipPane"),
    PaneSpec("8", "review", "Review", "tui.panes.review:ReviewPane"),
)
"""All panes, in the order of their keys."""
