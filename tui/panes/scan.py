"""Asking what to scan."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from tui.widgets.fillin import FillIn, Line, Values

if TYPE_CHECKING:
    from tui.app import SafedlApp

INTRO = """\
Is the data that you were sent, or the model that you downloaded, poisoned? Only the first line is needed; data that \
you trust makes the scan see more."""
PATHS = ("data", "trusted", "weights")


def ask_for_scan(app: SafedlApp) -> None:
    """Ask for data and model, then scan them in the Run pane. What was written is remembered, to be mended."""
    from safedl.catalog.models import MODELS

    written = app.memory.get("scan", {})
    lines = [
        Line("data", "Data to scan", written.get("data", ""), "a folder of images, or an .npz file"),
        Line("trusted", "Data that you trust", written.get("trusted", ""), "the same, clean; may be empty"),
        Line("model", "Model", written.get("model", ""), f"{', '.join(MODELS)}, or a module.py; may be empty"),
        Line("weights", "Its weights", written.get("weights", ""), "a file; empty: it is trained on the data"),
    ]

    async def taken(values: Values | None) -> None:
        if values is None:
            return
        from tui.panes.run import RunPane

        app.memory.set("scan", dict(values))
        await app.action_go("run")
        app.main.query_one(RunPane).start_scan({name: _absolute(name, text) for name, text in values.items()})

    app.push_screen(FillIn("Scan", lines, intro=INTRO, check=_objection), taken)


def _absolute(name: str, text: str) -> str | None:
    """Return a path that means the same to the driver; a model may be a name instead, and nothing is None."""
    path = Path(text).expanduser().absolute()
    return str(path) if text and (name in PATHS or path.is_file()) else text or None


def _objection(values: Values) -> str | None:
    """Return what is wrong with what was written, as far as files tell."""
    if not values["data"]:
        return "name the data to scan"
    missing = [values[name] for name in PATHS if values[name] and not Path(values[name]).expanduser().exists()]
    return f"there is no {', no '.join(missing)}" if missing else None
