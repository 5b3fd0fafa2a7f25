"""Suspects and decisions as files."""

from __future__ import annotations

from pathlib import Path

import pytest

from safedl.errors import UsageError
from safedl.review import (
    SUSPECTS,
    Suspect,
    decide,
    final_changes,
    path_of,
    read_decisions,
    read_suspects,
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


@pytest.mark.parametrize("text", ["x: drop", "3: maybe", "3: -1", "3: true", "3: [1]", "3: keep\n3: drop"])
def test_other_words_are_refused_with_file_and_line(tmp_path: Path, text: str) -> None:
    path = path_of(tmp_path, "scan-1")
    path.parent.mkdir(parents=True)
    path.write_text(text)
    with pytest.raises(UsageError, match=r"scan-1\.yaml: line \d: .*(x|3)"):
        read_decisions(tmp_path, "scan-1")


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


def test_suspects_without_a_decision_are_dropped() -> None:
    changes = final_changes([suspect(i) for i in (1, 2, 3, 4)], {2: "keep", 3: 5, 8: "drop"})
    assert changes.dropped == {1, 4, 8}
    assert changes.relabelled == {3: 5}
