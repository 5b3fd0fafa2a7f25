"""What `safedl plan` finds done depends on the threads per stage, and so on the workers."""

from __future__ import annotations

import json
import os

import pytest

from tests.cli.conftest import Safedl


def test_a_plan_is_for_a_number_of_workers(safedl: Safedl, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1}, raising=False)

    def keys(*words: str) -> list[str]:
        answer = safedl("plan", "digits", "--attack", "static_patch", "--device", "cpu", "--json", *words)
        assert answer.code == 0, answer
        told = "--workers 3: this machine has 2 cores; 2 workers are used"
        assert (told in answer.err) == ("3" in words)
        return [row["key"] for row in json.loads(answer.out)]

    alone, default = keys("--workers", "1"), keys()
    assert alone != default == keys("--workers", "3")
