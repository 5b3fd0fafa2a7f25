"""The command line: one file per noun. Commands import what they need when they run, so that `--help` is quick."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from safedl import __version__
from safedl.cli import cache, check, compare, db, doctor, listing, profile, report, risk, run, runs, sql, tui
from safedl.cli.output import drop_lost_output, explain
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
app.command("risk")(risk.risk)
app.command("compare")(compare.compare)
app.command("report")(report.report)
app.command("check")(check.check)
app.command("note")(check.note)
app.command("sql")(sql.sql)
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
        tui.open_app(context.obj)


def main() -> None:
    """Run the command line; errors become one line on stderr and an exit code."""
    try:
        status = app(standalone_mode=False)
        code = status if isinstance(status, int) else 0
    except typer._click.exceptions.ClickException as error:
        error.show()
        code = error.exit_code
    except typer.Abort:
        code = 130
    except BrokenPipeError:
        drop_lost_output()
        code = 0
    except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 - said in one line, with an exit code
        code = explain(error)
    sys.exit(code)
