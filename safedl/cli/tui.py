"""`safedl tui`: the full-screen app."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from safedl.cli.output import note
from safedl.errors import UsageError
from safedl.workspace import Workspace


def tui(
    context: typer.Context,
    mouse: Annotated[bool, typer.Option(help="Let the app have the mouse; without, the terminal selects.")] = True,
) -> None:
    """Open the app: everything from a keyboard, over SSH too."""
    open_app(context.obj, mouse=mouse)


def open_app(workspace: Workspace, *, mouse: bool = True) -> None:
    """Open the app on a workspace. Raises `UsageError` where there is no terminal to draw on."""
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise UsageError("the app needs a terminal; without one use the commands: safedl --help")
    if os.environ.get("TERM", "dumb") in ("dumb", ""):
        raise UsageError("this terminal (TERM=dumb) cannot show the app; use the commands: safedl --help")
    from tui.app import SafedlApp

    app = SafedlApp(workspace)
    app.run(mouse=mouse)
    if app.hub.running:
        note(f"still running: {', '.join(sorted(app.hub.running))}   safedl opens the app again")
    if app.return_code:
        raise typer.Exit(app.return_code)
