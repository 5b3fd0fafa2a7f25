"""Narrowing, sorting and deleting runs."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

from tests.cli.conftest import Safedl
from tests.store.samples import Workplace, experiment, finished, tree


@pytest.fixture
def work(tmp_path: Path) -> None:
    """An experiment that has ended."""
    workplace = Workplace(tmp_path)
    workplace.begin(experiment(), tree())
    for uid, accuracy in (("base", 0.99), ("attack", 0.98), ("clean", 0.97), ("perfect", 0.96)):
        workplace.apply(finished(uid, {"clean_accuracy": accuracy}))
    workplace.apply(finished("random", {}, "failed", "it broke"))
    workplace.recorder.close()


@pytest.mark.usefixtures("work")
def test_ls_takes_the_filter_language_and_an_order(safedl: Safedl) -> None:
    assert safedl("runs", "ls", "-q", "--filter", "attack:static acc<0.98").out.split() == ["perfect", "clean"]
    assert safedl("runs", "ls", "-q", "--sort", "acc").out.split() == ["base", "attack", "clean", "perfect", "random"]
    assert safedl("runs", "ls", "-q", "--sort", "-acc", "--limit", "2").out.split() == ["perfect", "clean"]
    wrong = safedl("runs", "ls", "--filter", "atack:x")
    assert wrong.code == 2
    assert "Did you mean 'attack'" in wrong.err


@pytest.mark.usefixtures("work")
def test_rm_asks_and_deletes_nothing_without_a_yes(
    safedl: Safedl, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("n\n"))
    answer = safedl("runs", "rm", "random")
    assert answer.code == 130
    assert (tmp_path / "results" / "runs" / "random").exists()


@pytest.mark.usefixtures("work")
def test_rm_deletes_children_before_their_parents(safedl: Safedl, tmp_path: Path) -> None:
    answer = safedl("runs", "rm", "--yes", "random", "perfect", "clean")
    assert answer.code == 0
    assert "deleted clean" in answer.err
    left = [run["uid"] for run in json.loads(safedl("runs", "ls", "--json").out)]
    assert left == ["attack", "base"]
    assert sorted(p.name for p in (tmp_path / "results" / "runs").iterdir()) == ["attack", "base"]
    refused = safedl("runs", "rm", "--yes", "base")
    assert refused.code == 2
    assert "1 runs start from it" in refused.err
    assert safedl("runs", "rm", "--yes", "nothing").code == 4
