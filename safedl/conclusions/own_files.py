"""Whether a profile's own data and model are the files that an experiment of its name ran on."""

from __future__ import annotations

import filecmp
from collections.abc import Sequence
from pathlib import Path

from safedl.lookup import find
from safedl.profile.files import own_files
from safedl.profile.schema import Profile


def same_files(profile: Profile, now: Sequence[str | Path], then: Sequence[str | Path]) -> bool:
    """Say whether what a profile calls `data.npz`, in the folders `now`, is what an experiment found in those `then`.

    Two profiles of one name and with the same relative paths may lie in two folders: the runs of one say nothing of the
    other. What is no longer there, as after a move, cannot be told apart and counts as the same, as does a copy of a
    file.
    """
    return all(_same(find(name, now), find(name, then)) for name in own_files(profile).values())


def _same(now: Path | None, then: Path | None) -> bool:
    try:
        if now is None or then is None or now.samefile(then):
            return True
        return now.is_file() and then.is_file() and filecmp.cmp(now, then, shallow=False)
    except OSError:  # not to be read
        return True
