"""A console for reading SQL: an editor, one line about the answer or the error, and the rows."""

from __future__ import annotations

import threading
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, cast

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.message import Message
from textual.widgets import Static, TextArea

from safedl.text import one_line, printable, shown
from tui.services import queries
from tui.services.ask import why
from tui.services.queries import Answered
from tui.widgets.grid import Grid
from tui.widgets.inorder import InOrder
from tui.widgets.lines import Lines
from tui.widgets.modal import Dialog, Option, Picker
from tui.widgets.pane import Box

if TYPE_CHECKING:
    from tui.app import SafedlApp

REMEMBERED = 100
"""Queries that the history keeps."""
LONGEST_UID = 64
LONGEST_CELL = 10_000
NULL = "null"
KEYS = "ctrl+j runs · F2 history · F3 named · F4 clears"
FIRST = "SELECT attack, defense, asr_after, clean_after, score\nFROM defense_results ORDER BY score DESC"


class SqlEditor(InOrder, TextArea):
    """The text of the query. It keeps the focus when the query is asked."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+j", "console('run')", "run"),
        Binding("ctrl+x", "console('stop')", "Stop the query", show=False),
        Binding("f2", "console('history')", "history"),
        Binding("f3", "console('named')", "named"),
        Binding("f4", "console('clear')", "Clear the query", show=False),
        Binding("escape", "console('leave')", "leave"),
    ]
    HELP = """\
SQL that only reads. Tables: run, metric, experiment; views: run_metrics, attack_results, defense_results, \
bound_results, leaderboard, run_param. Lines such as -- attack = static_patch at the top give parameters (:attack)."""

    def action_console(self, name: str) -> None:
        """Do what the console can do."""
        console = next(node for node in self.ancestors if isinstance(node, SqlConsole))
        getattr(console, f"action_{name}")()


class SqlConsole(Box):
    """Asks the store in a thread; at most `queries.MOST_ROWS` rows are shown."""

    DEFAULT_CSS = """
    SqlConsole SqlEditor { height: 30%; min-height: 4; max-height: 14; border: none; padding: 0; background: $boost; }
    SqlConsole #sql-message { height: 1; color: $text-muted; }
    SqlConsole #sql-message.error { color: $error; text-style: bold; height: auto; max-height: 4; }
    """

    class Left(Message):
        """The editor was left while there are no rows to go to."""

    def __init__(self, *, id: str) -> None:
        super().__init__(title="SQL", id=id)
        self.answered: Answered | None = None
        self.known: dict[str, str] = {}
        """Values for the parameters of named queries, as far as the surroundings know them."""
        self._stop: threading.Event | None = None
        self._asked_at = 0.0

    def compose(self) -> ComposeResult:
        """Lay editor, message and rows above each other."""
        draft = self.frame.memory.get("sql draft", FIRST)
        yield SqlEditor(draft, compact=True, soft_wrap=True, highlight_cursor_line=False, id="sql-editor")
        yield Static(KEYS, id="sql-message", markup=False)
        yield Grid(id="sql-rows")

    def on_mount(self) -> None:
        """Keep the cursor from blinking: each blink would be sent over the line."""
        self.editor.cursor_blink = False
        self.title("SQL", "E export")

    @property
    def frame(self) -> SafedlApp:
        """The app."""
        return cast("SafedlApp", self.app)

    @property
    def editor(self) -> SqlEditor:
        """The text."""
        return self.query_one(SqlEditor)

    @property
    def rows(self) -> Grid:
        """What came back."""
        return self.query_one("#sql-rows", Grid)

    @property
    def running(self) -> bool:
        """Whether a query is being answered."""
        return self._stop is not None

    # --- asking

    def action_run(self) -> None:
        """Ask the query."""
        text = self.editor.text.strip()
        if self.running:
            self.frame.say("a query runs; ctrl+x stops it")
            return
        self._remember(text)
        stop = self._stop = threading.Event()
        self._asked_at = self.frame.clock()
        self._tell("running …")
        db = self.frame.workspace.db
        self.frame.ask(
            self, "sql", lambda: queries.ask(db, text, stop.is_set), self._show, "ask the store", self._object
        )

    def action_stop(self) -> None:
        """Stop the query that runs."""
        if self._stop is None:
            self.frame.say("no query runs")
            return
        self._stop.set()
        self._tell("stopping …")

    def tick(self) -> None:
        """Say how long a query has been running."""
        seconds = self.frame.clock() - self._asked_at
        if self._stop is not None and not self._stop.is_set() and seconds >= 1:
            self._tell(f"running for {seconds:.0f} s · ctrl+x stops it")

    def _show(self, answered: Answered) -> None:
        self._stop, self.answered = None, answered
        answer = answered.answer
        columns = list(zip(*answer.rows, strict=True)) if answer.rows else [() for _ in answer.columns]
        right = [all(isinstance(v, int | float) or v is None for v in column) and bool(column) for column in columns]
        self.rows.show(answer.columns, [[_cell(v) for v in row] for row in answer.rows], right)
        self.rows.cursor, self.rows.column = 0, 0
        count = len(answer.rows)
        rows = f"{count} of >{count} rows" if answer.truncated else f"{count} row{'s' * (count != 1)}"
        self._tell(f"{rows} · {answered.milliseconds:.1f} ms · reads only")

    def _object(self, error: Exception) -> None:
        self._stop = self.answered = None
        self.rows.show((), (), ())  # what an earlier query returned would look like this one's answer
        self._tell(f"✗ {why(error)}", error=True)

    def _tell(self, text: str, *, error: bool = False) -> None:
        message = self.query_one("#sql-message", Static)
        message.update(one_line(text))
        message.set_class(error, "error")

    # --- history and named queries

    def _remember(self, text: str) -> None:
        memory = self.frame.memory
        past = [q for q in memory.get("sql history", []) if isinstance(q, str) and q.strip() and q != text]
        memory.set("sql history", [*past, *([text] if text else [])][-REMEMBERED:])

    def action_history(self) -> None:
        """Pick an earlier query."""
        past = [q for q in reversed(self.frame.memory.get("sql history", [])) if isinstance(q, str)]
        options = [Option(one_line(" ".join(q.split())), q) for q in past]
        self._pick("Earlier queries" if options else "No queries yet", options, self._write)

    def action_named(self) -> None:
        """Pick a query that comes with Safe-DL."""
        from safedl.store.named import named_queries

        found = named_queries()
        width = max(map(len, found), default=0)
        options = [Option(f"{name.ljust(width)}  {q.title}", name) for name, q in found.items()]

        def take(name: str) -> None:
            query = found[name]
            self._write(queries.written_out(query, self.known))
            if names := queries.missing(query, self.known):
                self.editor.move_cursor((0, len(self.editor.document.get_line(0))))
                self._tell(f"fill in {', '.join(names)} at the top, then ctrl+j")
            else:
                self.action_run()

        self._pick("Named queries", options, take)

    def _pick(self, title: str, options: list[Option], then: Any) -> None:
        def chosen(value: str | None) -> None:
            if value is not None:
                then(value)
            self.editor.focus()

        self.frame.push_screen(Picker(title, options), chosen)

    def _write(self, text: str) -> None:
        editor, before = self.editor, self.editor.text
        editor.replace(text, (0, 0), editor.document.end)  # so that it can be taken back
        editor.move_cursor((0, 0))
        self._tell("ctrl+j runs it" if text else "ctrl+z brings it back" if before else KEYS)

    # --- keys

    def action_clear(self) -> None:
        """Empty the editor."""
        self._write("")

    def action_leave(self) -> None:
        """Go on to the rows, or out of the console where there are none."""
        if self.rows.count:
            self.rows.focus()
        else:
            self.post_message(self.Left())

    def on_text_area_changed(self) -> None:
        """Remember what is typed."""
        self.frame.memory.set("sql draft", self.editor.text)

    async def on_lines_chosen(self, event: Lines.Chosen) -> None:
        """Open the run whose uid stands in the row, or show the whole value."""
        event.stop()
        if self.answered is None:
            return
        row = self.answered.answer.rows[event.index]
        content = row[self.rows.column]
        if isinstance(content, str) and _may_be_uid(content) and self.frame.workspace.run_folder(content).is_dir():
            await self.frame.open_run(content)
        else:
            text = NULL if content is None else printable(str(content))[:LONGEST_CELL]
            self.frame.push_screen(Dialog(self.answered.answer.columns[self.rows.column], text))

    def export(self, ask_path: Any) -> None:
        """Write all rows of the last answer, also those beyond the cap."""
        answered = self.answered
        if answered is None:
            self.frame.say("there are no rows yet: ctrl+j runs the query")
            return
        ask_path("query", partial(self._all, answered))

    def _all(self, answered: Answered) -> tuple[tuple[str, ...], list[tuple[Any, ...]]]:
        answer = answered.answer
        if answer.truncated:
            answer = queries.ask(self.frame.workspace.db, answered.text, lambda: False, queries.MOST_EXPORTED).answer
        return answer.columns, answer.rows


def _cell(content: Any) -> Text:
    if content is None:
        return Text(NULL, style="dim")
    if isinstance(content, bytes):
        return Text(f"{len(content)} bytes", style="dim")
    return Text(one_line(shown(content) if isinstance(content, float) else str(content)[:200]))


def _may_be_uid(text: str) -> bool:
    return len(text) <= LONGEST_UID and text.isascii() and text.replace("-", "").isalnum()
