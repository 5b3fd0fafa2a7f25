from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from safedl.conclusions.own_files import same_files
from safedl.profile.load import load
from safedl.profile.schema import Profile

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


def profile(place: Path, project: str) -> Profile:
    return load(place / project / "p.yaml")


def test_files_of_the_same_name_elsewhere_are_others(place: Path) -> None:
    ran_on = [str(place / "one"), str(place)]
    assert same_files(profile(place, "one"), place, ran_on)
    assert not same_files(profile(place, "two"), place, ran_on)


def test_a_copy_and_what_has_moved_are_the_same(place: Path) -> None:
    shutil.copy(place / "one" / "d.npz", place / "two" / "d.npz")
    assert same_files(profile(place, "two"), place, [str(place / "one")])
    shutil.move(place / "one", place / "three")
    (place / "two" / "d.npz").write_text("changed since")
    assert same_files(profile(place, "two"), place, [str(place / "one")])


def test_a_folder_elsewhere_is_another_one(place: Path) -> None:
    for project in ("one", "two"):
        (place / project / "d.npz").unlink()
        (place / project / "d.npz").mkdir()
    assert not same_files(profile(place, "two"), place, [str(place / "one")])
    assert same_files(profile(place, "two"), place, [str(place / "two"), str(place / "one")])
