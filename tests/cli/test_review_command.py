"""`safedl review`: suspects are listed, and what is decided about them is written."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from safedl.review import Suspect, read_decisions, write_suspects
from tests.cli.conftest import Safedl

SUSPECTS = (
    Suspect(7, None, 0, 1, 1.0, ("spectral_signatures",), 0),
    Suspect(3, "train/cat/3.png", 0, None, 0.99, ("spectral_signatures",), 0),
    Suspect(12, None, 1, 0, 0.9, ("data_cleaning",), 1),
)


@pytest.fixture
def scanned(tmp_path: Path) -> Path:
    """Return the results folder of a workspace with a scan and another run."""
    for uid, kind in (("scan-1", "scan"), ("base-1", "baseline")):
        folder = tmp_path / "results" / "runs" / uid
        (folder / "files").mkdir(parents=True)
        document = {"uid": uid, "kind": kind, "class_names": ["cat", "dog\x1b[2J"], "details": {}}
        (folder / "result.json").write_text(json.dumps(document))
    write_suspects(tmp_path / "results" / "runs" / "scan-1", SUSPECTS)
    return tmp_path / "results"


def test_suspects_are_listed_as_they_are_ranked(safedl: Safedl, scanned: Path) -> None:
    rows = json.loads(safedl("review", "scan", "--json").out)
    assert [row["index"] for row in rows] == [7, 3, 12] and rows[0]["decision"] is None
    answer = safedl("review", "scan-1", "--limit", "1")
    assert answer.code == 0 and "3 suspects, the first 1" in answer.out and "3.png" not in answer.out
    assert safedl("review", "scan-1").out.splitlines()[0].strip() == "3 suspects", "all of them are shown"
    assert "dog\\x1b[2J" in answer.out and "\x1b" not in answer.out + answer.err
    assert "3 undecided" in answer.err and not list(scanned.glob("notes/reviews/*"))


def test_a_position_is_an_exception_from_its_group(safedl: Safedl, scanned: Path) -> None:
    assert safedl("review", "scan-1", "--keep", "3", "--drop", "g0").code == 0
    assert read_decisions(scanned, "scan-1") == {3: "keep", 7: "drop"}
    safedl("review", "scan-1", "--relabel", "g0")  # number 3 looks like no other class
    assert read_decisions(scanned, "scan-1") == {3: "keep", 7: 1}


def test_decisions_are_written_and_taken_back(safedl: Safedl, scanned: Path) -> None:
    answer = safedl("review", "scan-1", "--keep", "g0", "--relabel", "12")
    assert answer.code == 0 and "2 kept, 0 dropped, 1 relabelled, 0 undecided" in answer.err
    assert read_decisions(scanned, "scan-1") == {3: "keep", 7: "keep", 12: 0}
    safedl("review", "scan-1", "--undecided", "7", "--drop", "12", "--relabel", "3=cat")
    assert read_decisions(scanned, "scan-1") == {3: 0, 12: "drop"}
    decisions = {row["index"]: row["decision"] for row in json.loads(safedl("review", "scan-1", "--json").out)}
    assert decisions == {7: None, 3: "relabel to cat", 12: "drop"}


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        (("scan-1", "--keep", "8"), 2, "--keep 8: no suspect of this scan"),
        (("scan-1", "--drop", "g5"), 2, "--drop g5: no group of this scan"),
        (("scan-1", "--drop", "gg0"), 2, "give a suspect's position, as 17, or a group, as g0"),
        (("scan-1", "--drop", "9" * 5000), 2, "give a suspect's position"),
        (("scan-1", "--keep", "7", "--drop", "7"), 2, "--drop 7: position 7 is decided about twice"),
        (("scan-1", "--drop", "g0", "--undecided", "g0"), 2, "--undecided g0: position 7 is decided about twice"),
        (("scan-1", "--relabel", "7=cot"), 2, "no class 'cot'. Did you mean 'cat'?"),
        (("scan-1", "--relabel", "3"), 2, "no other class is proposed; name one: 3=CLASS"),
        (("base-1",), 2, "run base-1 is no scan"),
        (("nothing",), 4, "no experiment or run is named 'nothing'; see: safedl runs ls"),
    ],
)
def test_what_cannot_be_decided_changes_nothing(
    safedl: Safedl, scanned: Path, words: tuple[str, ...], code: int, text: str
) -> None:
    answer = safedl("review", *words)
    assert answer.code == code and text in answer.err and answer.out == ""
    assert read_decisions(scanned, "scan-1") == {}


def test_a_scan_without_suspects_says_so(safedl: Safedl, scanned: Path) -> None:
    write_suspects(scanned / "runs" / "scan-1", ())
    answer = safedl("review", "scan-1")
    assert answer.code == 0 and answer.out == "" and "nothing to decide" in answer.err


def test_of_a_run_without_a_result_the_plan_says_whether_it_is_a_scan(safedl: Safedl, tmp_path: Path) -> None:
    for stage, uid in (("static_patch/pruning@0", "r1"), ("scan@0", "r2")):
        (tmp_path / "results" / "runs" / uid).mkdir(parents=True)
        folder = tmp_path / "results" / "experiments" / f"of-{uid}"
        folder.mkdir(parents=True)
        (folder / "plan.json").write_text(json.dumps({"stages": {stage: uid}, "runs": [uid]}))
    other, scan = safedl("review", "of-r1"), safedl("review", "of-r2")
    assert other.code == 2 and "run r1 is no scan" in other.err
    assert scan.code == 3 and "scan r2 has no result" in scan.err


def test_a_scan_that_was_tried_again_is_still_known_as_one(safedl: Safedl, tmp_path: Path) -> None:
    folder = tmp_path / "results" / "runs" / "r1"
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text("stage: scan@0\n")  # the plan names the later attempt alone
    scan = safedl("review", "r1")
    assert scan.code == 3 and "scan r1 has no result" in scan.err
