"""Damaged profiles: refused in plain words, or valid all the same; never another error, never a write."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.faults import mutate


def use_damaged(seed: int, folder: Path) -> tuple[list[bool], list[str]]:
    """Return whether each of 150 damaged profiles is valid all the same, and what was written meanwhile."""
    os.chdir(folder)
    assert mutate.use(mutate.profiles()[0])
    with mutate.watched() as written:
        answers = [mutate.use(text) for text in mutate.mutated(seed, 150)]
    return answers, written


@pytest.mark.parametrize("seed", [1, 2])
def test_damaged_profiles_are_refused_or_load_and_nothing_is_written(seed: int, tmp_path: Path) -> None:
    answers, written = mutate.apart(use_damaged, seed, tmp_path)
    assert written == []
    assert not list(tmp_path.iterdir())
    assert {True, False} == set(answers)  # the damages are neither all harmless nor all fatal


def write_and_read(folder: Path) -> list[str]:
    """Return what the watch sees."""
    with mutate.watched() as written:
        (folder / "x").write_text("x")
        (folder / "y").mkdir()
        (folder / "x").read_text()
    return written


def test_the_watch_sees_what_writes(tmp_path: Path) -> None:
    written = mutate.apart(write_and_read, tmp_path)
    assert [event.split()[0] for event in written] == ["open", "os.mkdir"]
