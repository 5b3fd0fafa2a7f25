"""Suspects and decisions as files."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from safedl.errors import UsageError
from safedl.review import (
    IMAGES,
    SUSPECTS,
    Decision,
    Suspect,
    decide,
    final_changes,
    path_of,
    read_decisions,
    read_suspects,
    suspect_images,
    write_suspects,
)


def suspect(index: int) -> Suspect:
    return Suspect(index, f"train/a/{index}.png", 1, None, 0.99, ("spectral_signatures",), 0)


def test_suspects_are_read_page_by_page(tmp_path: Path) -> None:
    listed = [suspect(index) for index in (9, 3, 7)]
    write_suspects(tmp_path, listed)
    assert read_suspects(tmp_path) == listed
    assert read_suspects(tmp_path, 1, 1) == [listed[1]]
    assert read_suspects(tmp_path, 3, 5) == []
    assert read_suspects(tmp_path / "nothing") == []


def test_decisions_add_up_and_can_be_taken_back(tmp_path: Path) -> None:
    decide(tmp_path, "scan-1", {3: "keep", 7: 2})
    path = decide(tmp_path, "scan-1", {3: None, 9: "drop"})
    assert read_decisions(tmp_path, "scan-1") == {7: 2, 9: "drop"}
    assert path == path_of(tmp_path, "scan-1") and path.read_text().startswith("# ")
    assert read_decisions(tmp_path, "scan-2") == {}


LONG = "9" * 5_000
"""More digits than Python makes a number of."""


@pytest.mark.parametrize(
    "text",
    ["x: drop", "3: maybe", "3: -1", "3: true", "3: [1]", "3: keep\n3: drop", f"{LONG}: 3", f"3: {LONG}"],
    ids=range(8),
)
def test_other_words_are_refused_with_file_and_line(tmp_path: Path, text: str) -> None:
    path = path_of(tmp_path, "scan-1")
    path.parent.mkdir(parents=True)
    path.write_text(text)
    with pytest.raises(UsageError, match=r"scan-1\.yaml: line \d: .*(x|3)") as raised:
        read_decisions(tmp_path, "scan-1")
    assert len(str(raised.value)) < len(str(path)) + 200


@pytest.mark.parametrize("changes", [{3: -1}, {3: True}, {3: "maybe"}, {-3: "keep"}, {3: 10**30}, {10**30: "drop"}])
def test_what_could_not_be_read_again_is_not_written(tmp_path: Path, changes: dict[int, Decision]) -> None:
    decide(tmp_path, "scan-1", {7: 10**18 - 1})
    with pytest.raises(UsageError, match=r"scan-1\.yaml: .* for position -?(3|1000)\S* cannot be written"):
        decide(tmp_path, "scan-1", {8: "keep", **changes})
    assert read_decisions(tmp_path, "scan-1") == {7: 10**18 - 1}


def test_a_decision_may_be_written_by_hand(tmp_path: Path) -> None:
    path = path_of(tmp_path, "scan-1")
    path.parent.mkdir(parents=True)
    path.write_text("# mine\n\n'3': keep  # a bag\n4 : 7\n")
    assert read_decisions(tmp_path, "scan-1") == {3: "keep", 4: 7}


def test_a_decision_about_a_very_large_group_can_be_read_again(tmp_path: Path) -> None:
    decisions = dict.fromkeys(range(60_000), "drop")
    decide(tmp_path, "scan-1", decisions)
    assert read_decisions(tmp_path, "scan-1") == decisions


def test_a_damaged_list_is_refused_with_file_and_line(tmp_path: Path) -> None:
    write_suspects(tmp_path, [suspect(index) for index in (9, 3)])
    path = tmp_path / SUSPECTS
    path.write_text(path.read_text() + '{"index": 5}\n')
    assert len(read_suspects(tmp_path, 0, 2)) == 2
    with pytest.raises(UsageError, match=r"suspects\.jsonl: line 3 is no suspect"):
        read_suspects(tmp_path, 1)


@pytest.mark.parametrize("name", ["index", "given_label", "proposed_label", "group"])
@pytest.mark.parametrize("value", ["1e999", LONG, "[" * 100_000], ids=["endless", "long", "deep"])
def test_numbers_that_python_cannot_read_are_refused_with_file_and_line(tmp_path: Path, name: str, value: str) -> None:
    write_suspects(tmp_path, [suspect(9)])
    path = tmp_path / SUSPECTS
    line = json.dumps({**json.loads(path.read_text()), name: "HERE"}).replace('"HERE"', value)
    path.write_text(path.read_text() + line + "\n")
    with pytest.raises(UsageError, match=r"suspects\.jsonl: line 2 is no suspect: .*; scan again"):
        read_suspects(tmp_path)


@pytest.mark.parametrize("damage", ["empty", "zip", "header"])
def test_a_file_that_holds_no_images_is_refused(tmp_path: Path, damage: str) -> None:
    path = tmp_path / IMAGES
    path.parent.mkdir()
    np.save(path, np.zeros((2, 1, 8, 8), np.uint8))
    if damage == "zip":
        with path.open("wb") as file:
            np.savez(file, path.read_bytes())
    else:
        path.write_bytes(path.read_bytes().replace(b"}", b"{") if damage == "header" else b"")
    with pytest.raises(ValueError):
        suspect_images(tmp_path)


def test_suspects_without_a_decision_are_dropped() -> None:
    changes = final_changes([suspect(i) for i in (1, 2, 3, 4)], {2: "keep", 3: 5, 8: "drop"})
    assert changes.dropped == {1, 4, 8}
    assert changes.relabelled == {3: 5}
