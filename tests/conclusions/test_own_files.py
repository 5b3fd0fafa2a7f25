from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from safedl.conclusions.own_files import same_files
from safedl.profile.load import load

OWN = """\
name: p
dataset: {path: d.npz}
model: {path: net.py}
"""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with two projects that name their files alike; only the data differ."""
    for project in ("one", "two"):
        (tmp_path / project).mkdir()
        (tmp_path / project / "p.yaml").write_text(OWN)
        (tmp_path / project / "d.npz").write_text(project)
        (tmp_path / project / "net.py").write_text("same")
    return tmp_path


def same(place: Path, project: str, then: list[str]) -> bool:
    return same_files(load(place / project / "p.yaml"), [place / project, place], then)


def test_files_of_the_same_name_elsewhere_are_others(place: Path) -> None:
    ran_on = [str(place / "one"), str(place)]
    assert same(place, "one", ran_on)
    assert not same(place, "two", ran_on)


def test_a_copy_and_what_has_moved_are_the_same(place: Path) -> None:
    shutil.copy(place / "one" / "d.npz", place / "two" / "d.npz")
    assert same(place, "two", [str(place / "one")])
    shutil.move(place / "one", place / "three")
    (place / "two" / "d.npz").write_text("changed since")
    assert same(place, "two", [str(place / "one")])


def test_a_folder_elsewhere_is_another_one(place: Path) -> None:
    for project in ("one", "two"):
        (place / project / "d.npz").unlink()
        (place / project / "d.npz").mkdir()
    assert not same(place, "two", [str(place / "one")])
    assert same(place, "two", [str(place / "two"), str(place / "one")])
