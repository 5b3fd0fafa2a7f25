"""Which stages run side by side."""

from __future__ import annotations

import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from safedl.pipeline import executor
from safedl.pipeline.executor import Control, Executor
from safedl.pipeline.stages import Job
from safedl.plan import Plan, Stage


def side_by_side(stages: list[Stage], done: list[str], monkeypatch: pytest.MonkeyPatch) -> list[set[str]]:
    """Run stages with two workers, each until the other has one too; return the pairs."""
    both, started = threading.Barrier(2, timeout=30), list[str]()

    def execute(_lab: object, job: Job, _monitor: object) -> dict[str, Any]:
        started.append(job.stage.id)
        both.wait()
        return {"metrics": {}, "timing": {}}

    monkeypatch.setattr(executor, "execute", execute)
    lab: Any = SimpleNamespace(devices=[torch.device("cpu")])
    uids = {stage.id: stage.id for stage in stages}
    results: dict[str, Any] = {name: {} for name in done}
    runner = Executor(lab, Plan(tuple(stages)), uids, results, folder=Path, workers=2, stall=60)
    statuses = runner.run(lambda _events: None, Control(lambda: False, lambda _uid: False))
    assert set(statuses.values()) == {"completed"}
    return [set(pair) for pair in zip(started[::2], started[1::2], strict=True)]


def test_defenses_of_different_attacks_run_side_by_side(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of one attack share what they compute, so one would wait for the other; they do if nothing else is left."""
    attacks = [Stage(name, "attack", 0, attack=name) for name in ("a", "b")]
    defenses = [Stage(f"{a}/{n}", "defense", 0, a, attack=a) for a, n in (("a", 1), ("a", 2), ("a", 3), ("b", 1))]
    pairs = side_by_side([*attacks, *defenses], ["a", "b"], monkeypatch)
    assert pairs == [{"a/1", "b/1"}, {"a/2", "a/3"}]


def test_one_defense_of_two_attacks_does_not_run_side_by_side(monkeypatch: pytest.MonkeyPatch) -> None:
    """Against adversarial images a defense trains one model, whatever the attack: one would wait for the other."""
    attacks = [Stage(name, "attack", 0, attack=name) for name in ("a", "b")]
    defenses = [Stage(f"{a}/{d}", "defense", 0, a, attack=a, defense=d) for a in ("a", "b") for d in ("x", "y")]
    pairs = side_by_side([*attacks, *defenses], ["a", "b"], monkeypatch)
    assert pairs == [{"a/x", "b/y"}, {"a/y", "b/x"}]


def test_seeds_of_one_attack_run_side_by_side(monkeypatch: pytest.MonkeyPatch) -> None:
    """They have nothing in common."""
    attacks = [Stage(f"a@{seed}", "attack", seed, attack="a") for seed in (0, 1)]
    defenses = [Stage(f"a/{n}@{seed}", "defense", seed, f"a@{seed}", attack="a") for seed in (0, 1) for n in (1, 2)]
    pairs = side_by_side([*attacks, *defenses], ["a@0", "a@1"], monkeypatch)
    assert pairs == [{"a/1@0", "a/1@1"}, {"a/2@0", "a/2@1"}]
