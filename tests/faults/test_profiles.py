"""Damaged profiles: refused in plain words, or valid all the same; never another error, never a write."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults import mutate


@pytest.mark.parametrize("seed", [1, 2])
def test_damaged_profiles_are_refused_or_load_and_nothing_is_written(
    seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert mutate.use(mutate.profiles()[0])
    with mutate.watched() as written:
        answers = [mutate.use(text) for text in mutate.mutated(seed, 150)]
    assert written == []
    assert not list(tmp_path.iterdir())
    assert {True, False} == set(answers)  # the damages are neither all harmless nor all fatal


def test_the_watch_sees_what_writes(tmp_path: Path) -> None:
    with mutate.watched() as written:
        (tmp_path / "x").write_text("x")
        (tmp_path / "y").mkdir()
        (tmp_path / "x").read_text()
    assert [event.split()[0] for event in written] == ["open", "os.mkdir"]
