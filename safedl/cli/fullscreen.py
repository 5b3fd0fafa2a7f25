"""Opening the app. It needs nothing of the commands, and is on the screen sooner without them."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from safedl.cli.output import note
from safedl.errors import UsageError
from safedl.workspace import Workspace


def asked_for(arguments: Sequence[str]) -> Workspace | None:
    """Return the workspace if the arguments name that at most, and so ask for the app; else None."""
    rest = list(arguments)
    named: dict[str, Path] = {}
    while len(rest) > 1 and rest[0] in ("--workspace", "--db") and not rest[1].startswith("-"):
        option, value, *rest = rest
        named[option] = Path(value)
    return None if rest else Workspace.open(named.get("--workspace"), named.get("--db"))


def open_app(workspace: Workspace, *, mouse: bool = True) -> int:
    """Open the app on a workspace; return its exit code. Raises `UsageError` where there is no terminal to draw on."""
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise UsageError("the app needs a terminal; without one use the commands: safedl --help")
    if os.environ.get("TERM", "dumb") in ("dumb", ""):
        raise UsageError("this terminal (TERM=dumb) cannot show the app; use the commands: safedl --help")
    gc.disable()  # until the first paint: all that is loaded stays, and looking through it takes an eighth of the start
    from tui.app import SafedlApp

    app = SafedlApp(workspace)
    app.run(mouse=mouse)
    if app.hub.running:
        note(f"still running: {', '.join(sorted(app.hub.running))}   safedl opens the app again")
    return app.return_code or 0
