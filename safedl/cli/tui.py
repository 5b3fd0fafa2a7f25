"""`safedl tui`: the full-screen app."""

from __future__ import annotations

from typing import Annotated

import typer

from safedl.cli.fullscreen import open_app


def tui(
    context: typer.Context,
    mouse: Annotated[bool, typer.Option(help="Let the app have the mouse; without, the terminal selects.")] = True,
) -> None:
    """Open the app: everything from a keyboard, over SSH too."""
    raise typer.Exit(open_app(context.obj, mouse=mouse))
