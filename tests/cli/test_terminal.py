"""What a terminal of 80 columns shows, and that nothing else has a width."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from safedl.cli.output import note, print_prose, print_rows
from safedl.cli.run import SPARE as SUMMARY_SPARE
from safedl.cli.runs import SHOWN_METRICS, SPARE
from tests.cli.conftest import Safedl
from tests.conclusions.measured import ran, save
from tests.store.samples import Workplace

UID = "20261126-205927-bb149a"
RUN: dict[str, Any] = {
    "uid": UID, "kind": "defense", "dataset": "digits", "attack": "learned_trigger", "defense": "spectral_signatures",
    "seed": 0, "status": "completed", "clean_accuracy": 0.9881, "asr": 0.13, "adversarial_accuracy": None,
    "tpr": 0.9, "fpr": 0.01, "seconds": 12.5, "error": None,
}  # fmt: skip

Terminal = Callable[[int], None]


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """Return a function that makes the output a terminal of so many columns."""

    def become(columns: int) -> None:
        for name, value in {"COLUMNS": str(columns), "LINES": "24", "TERM": "dumb"}.items():
            monkeypatch.setenv(name, value)
        monkeypatch.delenv("FORCE_COLOR", raising=False)
        monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
        monkeypatch.setattr(sys.stderr, "isatty", lambda: True)

    return become


def words(text: str) -> list[str]:
    return text.replace("\n", " ").split()


def test_a_narrow_terminal_goes_without_the_least_interesting_columns(
    terminal: Terminal, capsys: pytest.CaptureFixture[str]
) -> None:
    terminal(80)
    assert set(SPARE) >= {*SHOWN_METRICS} - {"asr"}
    print_rows([RUN, {**RUN, "asr": None}], spare=SPARE, ways="--csv, --json")
    said = capsys.readouterr()
    head, _, first, second = said.out.splitlines()
    assert head.split() == ["uid", "attack", "defense", "status", "asr"]
    assert first.split() == [UID, "learned_trigger", "spectral_signatures", "completed", "0.13"] and UID in second
    assert "left out to fit into 80 columns:" in said.err and "seconds" in said.err
    assert "adversarial_accuracy" not in said.err  # it is empty
    assert "--csv, --json, or a wider terminal" in " ".join(words(said.err))


def test_a_wide_terminal_shows_all_and_says_nothing(terminal: Terminal, capsys: pytest.CaptureFixture[str]) -> None:
    terminal(200)
    print_rows([RUN], spare=SPARE)
    said = capsys.readouterr()
    assert all(key in said.out for key in RUN) and said.err == ""


def test_what_fits_no_terminal_is_shown_record_by_record(
    terminal: Terminal, capsys: pytest.CaptureFixture[str]
) -> None:
    terminal(80)
    print_rows([{"run_id": 1, **RUN}, {"run_id": 2, **RUN}], ways="--csv, --json")
    said = capsys.readouterr()
    blocks = said.out.split("\n\n")
    assert len(blocks) == 2 and blocks[0].splitlines()[:3] == ["run_id: 1", f"uid: {UID}", "kind: defense"]
    assert "adversarial_accuracy" not in said.out
    assert "record by record" in said.err and "--csv" in said.err


def test_long_texts_are_folded_and_nothing_else(terminal: Terminal, capsys: pytest.CaptureFixture[str]) -> None:
    terminal(80)
    prose = "removes samples that lie far out along the directions that poison adds to the features of a class"
    print_rows([{"uid": UID, "defense": "random_removal:spectral_signatures", "summary": prose}])
    said = capsys.readouterr()
    lines = said.out.splitlines()
    assert UID in lines[2] and "random_removal:spectral_signatures" in lines[2] and len(lines) > 4
    assert max(map(len, lines)) <= 80 and set(prose.split()) <= set(words(said.out)) and said.err == ""
    print_rows([{"what": "folder", "is": "/a" * 60}])
    assert "record" not in capsys.readouterr().err


def test_a_pipe_has_no_width(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("FORCE_COLOR", "1")
    print_rows([{**RUN, "error": "it broke " * 100}], spare=SPARE)
    said = capsys.readouterr()
    lines = [line for line in said.out.splitlines() if line.strip()]
    assert len(lines) == 3 and lines[0].split() == [*RUN] and lines[2].count("it broke") == 100
    assert said.err == "" and "\x1b" not in said.out


def test_compare_fits_into_80_columns(terminal: Terminal, safedl: Safedl, tmp_path: Path) -> None:
    save(tmp_path)
    ran(Workplace(tmp_path))
    terminal(80)
    said = safedl("compare", "--by", "cost")
    lines = said.out.splitlines()
    heads = [line for line in lines if line.startswith("place")]
    assert heads and all("defense" in head and "cost" in head for head in heads)
    assert any("random_removal:activation_clustering" in line for line in lines)
    assert max(map(len, lines)) <= 80 and "left out" in said.err and "--md" in said.err


def test_the_summary_of_a_run_fits_into_80_columns(terminal: Terminal, capsys: pytest.CaptureFixture[str]) -> None:
    before = {"clean before": 0.9861, "clean after": 0.9881, "ASR before": 0.9846, "ASR after": 0.2621}
    evasion = {"adversarial before": 0.9901, "adversarial after": 0.7421}
    detector = "random_removal (activation_clustering)"
    row = {"attack": "static_patch", "defense": detector, "seed": 0, **before, **evasion, "TPR": 1.0, "FPR": 0.04817}
    terminal(80)
    print_rows([{**row, "seconds": 4.256}], spare=SUMMARY_SPARE)
    head, *_ = capsys.readouterr().out.splitlines()
    assert all(name in head for name in ("attack", "defense", "clean after", "ASR after", "adversarial after"))


def test_sentences_break_between_words(terminal: Terminal, capsys: pytest.CaptureFixture[str]) -> None:
    text = (
        "open            Accuracy: backdoors must be expected wherever data comes from strangers, and this is said here"
    )
    terminal(80)
    print_prose(text, hang=16)
    note("\n1. What? /" + "x" * 90 + "\n   indented " + "and long " * 20)
    said = capsys.readouterr()
    first, second = said.out.splitlines()
    assert len(first) <= 80 and second.startswith(" " * 16 + "strangers,") and words(said.out) == words(text)
    lines = said.err.splitlines()
    assert lines[0] == "" and lines[2] == "/" + "x" * 90  # what is copied stays whole
    assert all(line.startswith("   ") and len(line) <= 80 for line in lines[3:]) and len(lines) > 5


@pytest.mark.parametrize("columns", ["0", "-5", "wide", ""])
def test_a_terminal_that_does_not_know_its_width_has_80_columns(
    terminal: Terminal, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, columns: str
) -> None:
    terminal(80)
    monkeypatch.setenv("COLUMNS", columns)
    monkeypatch.setattr(sys.stdout, "fileno", lambda: 1)
    monkeypatch.setattr("os.get_terminal_size", lambda _: os.terminal_size((0, 0)))
    print_prose("word " * 100)
    assert max(map(len, capsys.readouterr().out.splitlines())) == 79


def test_sentences_in_files_have_no_width(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    note("word " * 100)
    print_prose("word " * 100)
    said = capsys.readouterr()
    assert said.out == said.err == "word " * 100 + "\n"


def test_check_and_risk_speak_in_whole_words(terminal: Terminal, safedl: Safedl, tmp_path: Path) -> None:
    save(tmp_path)
    ran(Workplace(tmp_path))
    plain = {command: words(safedl(command, "small").out) for command in ("check", "risk")}
    terminal(80)
    for command, expected in plain.items():
        said = safedl(command, "small").out
        assert max(map(len, said.splitlines())) <= 80
        assert command == "risk" or words(said) == expected
