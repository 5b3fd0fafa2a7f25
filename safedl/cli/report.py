"""`safedl report`: the final report of a profile, as Markdown or as one HTML file."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from safedl.cli.concluding import ProfileName, started
from safedl.cli.output import note
from safedl.errors import UsageError, cannot_write, nearest
from safedl.workspace import Workspace

FORMS = ("md", "html")
_SUFFIXES = {".md": "md", ".html": "html", ".htm": "html"}


def report(
    context: typer.Context,
    profile: ProfileName,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Default: results/final_report.", metavar="FILE")
    ] = None,
    form: Annotated[
        str | None, typer.Option("--format", help="md or html; default: by FILE's ending.", metavar="md|html")
    ] = None,
) -> None:
    """Write what was tested, found and decided, and print where it lies. HTML is one file that needs no network."""
    from safedl.conclusions.write import write_report

    workspace: Workspace = context.obj
    chosen = form or (_SUFFIXES.get(output.suffix.lower()) if output else "md")
    if chosen is None:
        raise UsageError(f"--output {output}: name a file that ends with .md or .html, or give --format too")
    if chosen not in FORMS:
        raise UsageError(f"--format {chosen}: allowed are {', '.join(FORMS)}.{nearest(chosen, FORMS)}")
    target = output or workspace.results / f"final_report.{chosen}"
    if target.is_dir():
        raise UsageError(f"{target} is a folder; name a file")
    if target.exists() and not target.is_file():  # what is written is moved into place, and a device would be gone
        raise UsageError(f"{target} is no file; name one")
    found = started(workspace, profile)
    try:
        place = Path(os.path.realpath(target)) if target.is_symlink() else target
        write_report(workspace.results, found, place, "html" if chosen == "html" else "md")
    except OSError as error:
        raise cannot_write(target, error) from error
    print(target)
    note(found.verdict)
