"""What `safedl plan` says of a selection, and that what it finds done depends on the threads per stage."""

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


def test_a_defense_that_is_not_planned_against_the_chosen_attack_is_not_left_out_silently(safedl: Safedl) -> None:
    refused = safedl("plan", "digits", "--attack", "static_patch", "--defense", "robust_loss")
    assert refused.code == 2
    said = " ".join(refused.err.split())
    assert "profile 'digits' has no defense 'robust_loss' against static_patch; it has: activation_clustering" in said
    both = safedl("plan", "digits", "--attack", "static_patch", "--attack", "clean_label", "--defense", "robust_loss")
    assert both.code == 0 and "robust_loss" in both.out
