"""What commands about a profile share: its name, and what `risk`, `report`, `check` and `note` know about it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from safedl.errors import NotFoundError
from safedl.workspace import Workspace

if TYPE_CHECKING:
    from safedl.conclusions.gather import Conclusions

ProfileName = Annotated[str, typer.Argument(help="A profile's file, or the name of a known one.", metavar="PROFILE")]


def known_about(workspace: Workspace, profile: str) -> tuple[Path, Conclusions]:
    """Return a profile's file and what its latest experiment says. It may never have run."""
    from safedl.conclusions.gather import conclude
    from safedl.profile.load import load

    path = workspace.find_profile(profile)
    return path, conclude(workspace.db, workspace.results, load(path))


def started(workspace: Workspace, profile: str) -> Conclusions:
    """Return what is known about a profile that ran, however it ended. Raises `NotFoundError` if it never ran."""
    _, found = known_about(workspace, profile)
    if found.experiment is None:
        raise NotFoundError(f"profile '{found.profile.name}' has not run yet; run it: safedl run {profile}")
    return found


def measured(workspace: Workspace, profile: str) -> tuple[Path, Conclusions]:
    """Return the same, of a profile that ran. Raises `NotFoundError` if none of its attacks has completed."""
    path, found = known_about(workspace, profile)
    if not found.facts.outcomes:
        raise NotFoundError(
            f"no completed attack of profile '{found.profile.name}' as it stands; run it: safedl run {profile}"
        )
    return path, found
