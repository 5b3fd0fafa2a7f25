"""`safedl cache`: what is kept so that it need not be computed again."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from safedl.cache import ArtifactCache
from safedl.cli.output import note, print_rows
from safedl.errors import IncompleteError, UsageError

app = typer.Typer(help="Artifacts that spare a second computation: models, poison, features.", no_args_is_help=True)

_UNITS = {"K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


@app.command("ls")
def ls(context: typer.Context, json: Annotated[bool, typer.Option("--json", help="Print an array.")] = False) -> None:
    """List all artifacts."""
    entries = list(_cache(context).entries())
    rows = [
        {
            "kind": a.kind,
            "key": a.key if json else a.key[:12],
            "MB": a.size / 1e6,
            "seconds": a.seconds,
            "days old": (time.time() - a.created_at) / 86_400,
        }
        for a in entries
    ]
    print_rows(rows, as_json=json, ways="--json")
    note(f"{len(rows)} artifacts, {sum(a.size for a in entries) / 1e6:.1f} MB")


@app.command("gc")
def gc(
    context: typer.Context,
    older: Annotated[
        float | None, typer.Option(min=0, help="Remove what is older than so many days.", metavar="DAYS")
    ] = None,
    max_size: Annotated[
        str | None, typer.Option(help="Remove the oldest until this is left, e.g. 500M or 20G.", metavar="SIZE")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do it; without, only show what would go.")] = False,
) -> None:
    """Remove artifacts; they are computed again when something needs them. Results stay."""
    if older is None and max_size is None:
        raise UsageError("say what may go: --older DAYS or --max-size SIZE")
    cache = _cache(context)
    entries = sorted(cache.entries(), key=lambda a: a.created_at)
    limit = _size(max_size) if max_size else None
    total, chosen = sum(a.size for a in entries), []
    for artifact in entries:
        too_old = older is not None and time.time() - artifact.created_at > older * 86_400
        if too_old or (limit is not None and total > limit):
            chosen.append(artifact)
            total -= artifact.size
    removed = [a for a in chosen if not yes or cache.remove(a.path)]
    if yes:
        cache.remove_leftovers()
    note(
        f"{'removed' if yes else 'would remove'} {len(removed)} artifacts, {sum(a.size for a in removed) / 1e6:.1f} MB"
    )
    if chosen and not yes:
        note("add --yes to do it")


@app.command("verify")
def verify(context: typer.Context) -> None:
    """Check every artifact against its checksums and remove damaged ones (they are computed again)."""
    cache = _cache(context)
    damaged = cache.damaged()
    for path in damaged:
        note(f"damaged, {'removed' if cache.remove(path) else 'could not be removed'}: {path}")
    if leftovers := cache.remove_leftovers():
        note(f"removed {leftovers} that were never finished")
    good = sum(1 for _ in cache.entries())
    note(f"{good} artifacts are sound")
    if damaged:
        raise IncompleteError(f"{len(damaged)} artifacts were damaged")


def _cache(context: typer.Context) -> ArtifactCache:
    return ArtifactCache(context.obj.cache)


def _size(text: str) -> float:
    """Return the number of bytes that `500M` or `20G` means. Raises `UsageError`, for what is less than nothing too."""
    number, unit = text[:-1], text[-1:].upper()
    try:
        size = float(number) * _UNITS[unit] if unit in _UNITS else float(text)
    except ValueError:
        size = -1
    if not size >= 0:  # NaN compares with nothing
        raise UsageError(f"--max-size {text}: write a size like 500M or 20G")
    return size
