"""Files appear whole or not at all; JSON is plain."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from safedl.reports import files


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "result.json"
    files.write_text(target, "old")

    def full(_: int) -> None:
        raise OSError("no space left")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="no space"):
        files.write_text(target, "new")
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_folders_are_made(tmp_path: Path) -> None:
    files.write_bytes(tmp_path / "a" / "b" / "c", b"x")
    assert (tmp_path / "a" / "b" / "c").read_bytes() == b"x"


def test_json_has_no_arrays_nor_nan() -> None:
    value = {
        "f": np.float32(0.5), "i": np.int64(3), "b": np.bool_(True), "a": np.array([1.0, np.nan]),
        "n": float("inf"), "t": (1, 2), 5: Path("x"), "deep": [{"x": float("nan")}],
    }  # fmt: skip
    assert json.loads(files.encode_json(value)) == {
        "f": 0.5, "i": 3, "b": True, "a": [1.0, None], "n": None, "t": [1, 2], "5": "x", "deep": [{"x": None}],
    }  # fmt: skip


def test_lists_of_numbers_stand_on_one_line_and_strings_are_untouched() -> None:
    value = {"numbers": [1, -2.5, 3e-7], "text": "[\n1,\n2 ]", "empty": [], "mixed": [1, None]}
    text = files.encode_json(value)
    assert '"numbers": [1, -2.5, 3e-07]' in text
    assert json.loads(text) == value


def test_json_is_ascii_without_control_characters() -> None:
    text = files.encode_json({"name": "\x1b[2J\x9b\u202e\udc80é"})
    assert text.isascii()
    assert text.replace("\n", "").isprintable()


@pytest.mark.parametrize("name", ["../../x", "/etc/passwd", "a\x00b", "", "..", "CON\n", "x" * 500, "日本"])
def test_file_names_stay_in_their_folder(name: str, tmp_path: Path) -> None:
    made = files.file_name(7, name)
    assert (tmp_path / made).resolve().parent == tmp_path.resolve()
    assert made.startswith("07")
    assert made.endswith(".png")
    assert made.isascii()
    assert len(made) < 60


def test_only_other_images_are_removed(tmp_path: Path) -> None:
    for name in ("a.png", "b.png", "note.txt"):
        (tmp_path / name).touch()
    files.remove_others(tmp_path, {"a.png"})
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.png", "note.txt"]
    files.remove_others(tmp_path / "missing", {"a.png"})
