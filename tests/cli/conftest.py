"""The command line, called in this process."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from safedl import cli


@dataclass(frozen=True)
class Answer:
    """What a command said, and how it ended."""

    code: int
    out: str
    err: str


Safedl = Callable[..., Answer]


@pytest.fixture
def safedl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Safedl:
    """Return a function that calls the command line in an empty workspace, which is the current folder too."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SAFEDL_DB", raising=False)

    def call(*arguments: str) -> Answer:
        monkeypatch.setattr(sys, "argv", ["safedl", *arguments])
        capsys.readouterr()
        with pytest.raises(SystemExit) as exit_:
            cli.main()
        said = capsys.readouterr()
        return Answer(int(exit_.value.code or 0), said.out, said.err)

    return call
