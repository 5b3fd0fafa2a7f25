"""All commands, and the frame around them: which workspace, which store."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from safedl import __version__
from safedl.cli import (
    cache,
    check,
    compare,
    db,
    doctor,
    export,
    listing,
    profile,
    report,
    review,
    risk,
    run,
    runs,
    scan,
    sql,
    tui,
)
from safedl.cli.fullscreen import open_app
from safedl.workspace import Workspace

app = typer.Typer(
    name="safedl",
    help="Which attacks hurt your image classifier, which defenses help, what they cost, and may it ship.",
    no_args_is_help=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.command("run")(run.run)
app.command("plan")(run.plan)
app.command("resume")(run.resume)
app.command("scan")(scan.scan)
app.command("risk")(risk.risk)
app.command("review")(review.review)
app.command("export")(export.export)
app.command("compare")(compare.compare)
app.command("report")(report.report)
app.command("check")(check.check)
app.command("note")(check.note)
app.command("sql", cls=sql.CommentedQuery)(sql.sql)
app.command("doctor")(doctor.doctor)
app.command("tui")(tui.tui)
app.add_typer(runs.app, name="runs")
app.add_typer(listing.app, name="list")
app.add_typer(profile.app, name="profile")
app.add_typer(db.app, name="db")
app.add_typer(cache.app, name="cache")


def _show_version(value: bool) -> None:
    if value:
        typer.echo(__version__)
        raise typer.Exit


@app.callback(invoke_without_command=True)
def frame(
    context: typer.Context,
    workspace: Annotated[
        Path | None, typer.Option(help="Folder with profiles, results and store.", metavar="DIR")
    ] = None,
    db: Annotated[Path | None, typer.Option(help="The store, if elsewhere (or SAFEDL_DB).", metavar="FILE")] = None,
    version: Annotated[bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show it.")] = False,
) -> None:
    """Open the workspace that every command works on; without a command, open the app on it."""
    context.obj = Workspace.open(workspace, db)
    if context.invoked_subcommand is None:
        raise typer.Exit(open_app(context.obj))


def invoke() -> int:
    """Do what `sys.argv` says and return the exit code; raises the errors of Safe-DL."""
    try:
        status = app(standalone_mode=False)
    except typer._click.exceptions.ClickException as error:
        error.show()
        return int(error.exit_code)
    except typer.Abort:
        return 130
    except SystemExit as error:  # Typer's answer to a closed pipe
        if isinstance(error.__context__, BrokenPipeError):
            raise error.__context__ from None
        raise
    return status if isinstance(status, int) else 0
