"""Where the files lie that a profile names."""

from __future__ import annotations

from pathlib import Path

import pytest

from safedl.errors import UsageError
from safedl.lookup import expanded, find, require


def test_a_path_is_told_without_dots_unless_links_make_it_another(tmp_path: Path) -> None:
    (tmp_path / "profiles").mkdir()
    (tmp_path / "own.npz").touch()
    assert require("../own.npz", [tmp_path / "profiles"], "dataset.path") == tmp_path / "own.npz"
    (tmp_path / "far" / "deep").mkdir(parents=True)
    (tmp_path / "far" / "own.npz").touch()
    (tmp_path / "linked").symlink_to(tmp_path / "far" / "deep")
    found = require("../own.npz", [tmp_path / "linked"], "dataset.path")
    assert found.samefile(tmp_path / "far" / "own.npz")
    with pytest.raises(UsageError, match=r"looked in [^.]+\)$"):
        require("../none.npz", [tmp_path / "profiles", tmp_path / "far"], "dataset.path")


def test_the_first_folder_that_has_it_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    for folder in (first, second):
        folder.mkdir()
        (folder / "own.npz").touch()
    (second / "other.npz").touch()
    monkeypatch.chdir(second)
    for name, folders, expected in (
        ("own.npz", [first, second], first / "own.npz"),
        ("other.npz", [first, second], second / "other.npz"),
        (str(first / "own.npz"), [second], first / "own.npz"),
        ("other.npz", [], second / "other.npz"),
    ):
        found = find(name, folders)
        assert found is not None and found.samefile(expected)
        assert require(name, folders, "dataset.path") == expected
    assert find("other.npz", [first]) is None


def test_homes_are_filled_in_where_they_are_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "own.npz").touch()
    assert require("~/own.npz", [Path("/")], "dataset.path") == find("~/own.npz", []) == tmp_path / "own.npz"
    unknown = "~no-such-user/own.npz"
    assert expanded(unknown) == Path(unknown)
    assert find(unknown, [tmp_path]) is None
    with pytest.raises(UsageError, match=f"dataset.path: no such file: {unknown}"):
        require(unknown, [tmp_path], "dataset.path")


def test_what_cannot_be_looked_for_is_not_there(tmp_path: Path) -> None:
    name = "x" * 300
    assert find(name, [tmp_path]) is None
    with pytest.raises(OSError, match="too long"):
        require(name, [tmp_path], "dataset.path")
