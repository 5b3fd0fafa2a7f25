"""Asking what to take home of a run."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from safedl.workspace import LIST_ENDING, MODEL_ENDINGS
from tui.widgets.fillin import FillIn, Line, Values
from tui.widgets.modal import Dialog

if TYPE_CHECKING:
    from tui.app import SafedlApp

INTRO = """\
Data goes without what was flagged or dropped, with its new labels. Lines that stay empty are not written."""
EXAMPLES = {
    "data": ("Data", "a new .npz file, or a new folder for images"),
    "model": ("Model", f"a new {', '.join(MODEL_ENDINGS[:-1])} or {MODEL_ENDINGS[-1]} file"),
    "indices": ("List of samples: kept, dropped, relabelled", f"a new {LIST_ENDING} file"),
}

REMINDED = 10
"""Seconds after which it is said again that an export goes on: its first words stay for a few."""


def ask_for_export(app: SafedlApp, uid: str) -> None:
    """Ask where a run's data and model go, then write them in a process of its own."""
    lines = [Line(name, label, "", example) for name, (label, example) in EXAMPLES.items()]

    def taken(values: Values | None) -> None:
        if values is None:
            return
        app.say(f"exporting {uid}: loading takes some seconds")
        again = app.set_interval(REMINDED, lambda: app.say(f"still exporting {uid}"))

        def done(said: str) -> None:
            again.stop()
            app.tell(Dialog("Exported", said))

        def failed(error: Exception) -> None:
            again.stop()
            app.show_error(error, doing)

        doing, export = "export the run", partial(app.workspace.export, uid, _targets(values))
        app.ask(app.main, f"export {uid} {id(again)}", export, done, doing, failed)  # each is told how it ended

    app.push_screen(FillIn(f"Take home {uid}", lines, intro=INTRO, check=_objection), taken)


def _targets(values: Values) -> dict[str, Path]:
    """Return what is written where, by option of `safedl export`. Raises `RuntimeError` for a ~user who is nobody."""
    return {name: Path(text).expanduser().absolute() for name, text in values.items() if text}


def _objection(values: Values) -> str | None:
    """Return what is wrong with what was written."""
    targets = _targets(values)
    if not targets:
        return "name a file in at least one of the lines"
    for name, endings in (("model", MODEL_ENDINGS), ("indices", (LIST_ENDING,))):
        if name in targets and targets[name].suffix not in endings:
            return f"{EXAMPLES[name][0]}: the name must end in {', '.join(endings)}"
    taken = next((path for path in targets.values() if path.exists()), None)
    return f"{taken} exists already; name another one" if taken else None
