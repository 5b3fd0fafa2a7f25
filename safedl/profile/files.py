"""The files of its own that a profile names, whether they are there, and whether it was changed itself."""

from __future__ import annotations

from pathlib import Path

from safedl.errors import NotFoundError, UsageError
from safedl.lookup import find
from safedl.profile.load import load
from safedl.profile.schema import Profile


def own_files(profile: Profile) -> dict[str, str]:
    """Return the files and folders that a run of a profile reads, as it names them, by the key that names them."""
    named: dict[str, str | None] = {}
    if data := profile.dataset:
        own = data.type == "custom" or data.path
        named["dataset.path" if data.path else "dataset.name"] = (data.path or data.name) if own else None
    if model := profile.model:
        named["model.path" if model.path else "model.name"] = model.own
        named["model.weights"] = model.weights
    return {key: name for key, name in named.items() if name}


def absent_files(profile: Profile, workspace: Path) -> tuple[str, ...]:
    """Return a line for each file that a profile names and that is not on this machine: it may run on another one."""
    folders = [*([profile.path.resolve().parent] if profile.path else []), workspace]
    scan = {"scan.trusted": profile.scan.trusted, "scan.weights": profile.scan.weights}
    named = {**own_files(profile), **{key: name for key, name in scan.items() if name}}
    return tuple(f"{key}: no such file here: {name}" for key, name in named.items() if not find(name, folders))


def changed(profile: Profile, origin: Path) -> bool:
    """Return whether `origin`, where a profile was read from, says something else by now; `risk_analysis` is ours."""
    try:
        now = load(origin)
    except NotFoundError:
        return False
    except UsageError:
        return True
    both = [{**p.document, "risk_analysis": None} for p in (profile, now)]
    return both[0] != both[1]
