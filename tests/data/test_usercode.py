"""Modules of the user's own: what they import, and that they do not get in each other's way."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from safedl.data.usercode import call, importing
from safedl.progress import SILENT

SOURCE = """
import helper_of_test
def get():
    import lazy_of_test
    return helper_of_test.NAME, lazy_of_test.NAME
def again():
    import helper_of_test, lazy_of_test
    return helper_of_test.NAME, lazy_of_test.NAME
"""


def test_modules_get_their_own_neighbours_of_the_same_name(tmp_path: Path) -> None:
    paths = []
    for folder in (tmp_path / "data", tmp_path / "data" / "models"):
        folder.mkdir()
        for name in ("helper", "lazy"):
            (folder / f"{name}_of_test.py").write_text(f"NAME = '{name} of {folder.name}'\n")
        (folder / "own.py").write_text(SOURCE)
        paths.append(folder / "own.py")
    for path in paths * 2:
        folder = path.parent.name
        expected = (f"helper of {folder}", f"lazy of {folder}")
        assert call(path, "get", {}, {}, SILENT) == expected
        assert call(path, "again", {}, {}, SILENT) == expected
        # What a function imports when it runs is still there after the call.
        left = sys.modules["lazy_of_test"].__dict__
        assert left["NAME"] == f"lazy of {folder}"
    assert not any(str(tmp_path) in entry for entry in sys.path)


def test_neighbours_are_the_same_objects_in_every_call(tmp_path: Path) -> None:
    (tmp_path / "counter_of_test.py").write_text("CALLS = []\n")
    (tmp_path / "own.py").write_text(
        "from counter_of_test import CALLS\ndef get():\n    CALLS.append(1)\n    return CALLS"
    )
    first = call(tmp_path / "own.py", "get", {}, {}, SILENT)
    assert call(tmp_path / "own.py", "get", {}, {}, SILENT) is first and len(first) == 2
    with importing(tmp_path / "own.py"):
        assert sys.modules["counter_of_test"].CALLS is first


def test_a_changed_neighbour_is_read_anew(tmp_path: Path) -> None:
    (tmp_path / "part_of_test").mkdir()
    (tmp_path / "part_of_test" / "values.py").write_text("VALUE = 1\n")
    (tmp_path / "own.py").write_text("from part_of_test.values import VALUE\ndef get():\n    return VALUE")
    assert call(tmp_path / "own.py", "get", {}, {}, SILENT) == 1
    (tmp_path / "part_of_test" / "values.py").write_text("VALUE = 22\n")
    assert call(tmp_path / "own.py", "get", {}, {}, SILENT) == 22


def test_packages_installed_below_the_folder_are_no_part_of_the_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed = tmp_path / ".venv" / "lib" / "site-packages"
    installed.mkdir(parents=True)
    (installed / "installed_of_test.py").write_text("VALUE = []\n")
    monkeypatch.syspath_prepend(str(installed))
    for name in ("one.py", "two.py"):
        (tmp_path / name).write_text("import installed_of_test\ndef get():\n    return installed_of_test.VALUE")
    first = call(tmp_path / "one.py", "get", {}, {}, SILENT)
    assert call(tmp_path / "two.py", "get", {}, {}, SILENT) is first
