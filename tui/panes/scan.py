"""Asking what to scan."""

from __future__ import annotations

from typing import TYPE_CHECKING

from safedl.errors import SafedlError
from safedl.lookup import expanded
from tui.widgets.fillin import FillIn, Line, Values

if TYPE_CHECKING:
    from tui.app import SafedlApp

INTRO = """\
Is the data that you were sent, or the model that you downloaded, poisoned? Only the first line is needed; data that \
you trust makes the scan see more."""


def ask_for_scan(app: SafedlApp) -> None:
    """Ask for data and model, then scan them in the Run pane. What was written is remembered, to be mended."""
    from safedl.catalog.models import MODELS

    examples = {
        "data": ("Data to scan", "image folder, .npz or .parquet file, module, or a built-in data set"),
        "trusted": ("Data that you trust", "images known to be clean, of the same classes; may be empty"),
        "model": ("Model", f"{', '.join(MODELS)}, or a module.py; may be empty"),
        "weights": ("Its weights", "a file; empty: it is trained on the data"),
    }
    remembered = f"scan {app.workspace.root}"
    written = app.memory.get(remembered, {})
    lines = [Line(name, label, written.get(name, ""), example) for name, (label, example) in examples.items()]

    async def taken(values: Values | None) -> None:
        if values is None:
            return
        from tui.panes.run import RunPane

        app.memory.set(remembered, dict(values))
        await app.action_go("run")
        app.main.query_one(RunPane).start_scan(_expanded(values))

    app.push_screen(FillIn("Scan", lines, intro=INTRO, check=_objection), taken)


def _objection(values: Values) -> str | None:
    """Return what is wrong with what was written, as far as it shows before anything is loaded."""
    from safedl.profile.scanning import scan_document

    named = _expanded(values)
    data = named["data"]
    if data is None:
        return "name the data to scan"
    try:
        scan_document(data, trusted=named["trusted"], model=named["model"], weights=named["weights"])
    except SafedlError as error:
        return str(error)
    return None


def _expanded(values: Values) -> dict[str, str | None]:
    """Return what was written with `~` as the home folder, and None for nothing."""
    return {n: str(expanded(text)) if text.startswith("~/") else text or None for n, text in values.items()}
