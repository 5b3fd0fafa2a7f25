"""A small profile on digits, and a driver that runs it in this process."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from safedl.events import Event
from safedl.pipeline.driver import Request, drive, prepare
from safedl.profile.load import parse
from safedl.workspace import Workspace

PROFILE = """
name: small
dataset: {name: digits, subset: 60}
model: {name: cnn, params: {conv_filters: 8, hidden_size: 32}}
training: {epochs: 3, batch_size: 32, learning_rate: 0.003, precision: float32}
attack_overrides:
  data_poisoning:
    label_flipping: {flip_rate: 0.2, target_class: 1}
  backdoor:
    static_patch: {patch_size_ratio: 0.3, target_class: 2}
defense_config:
  data_poisoning:
    label_flipping: {defenses: [robust_loss]}
  backdoor:
    static_patch: {defenses: [activation_clustering]}
"""


@dataclass
class Driven:
    """What came of one drive."""

    uid: str
    code: int
    hanging: bool
    events: list[Event] = field(default_factory=list)

    def statuses(self) -> dict[str, str]:
        """Return the last state of each stage, by the stage's id."""
        names = {s["uid"]: s["id"] for s in self.events[0]["stages"]}
        return {names[e["uid"]]: e["status"] for e in self.events if e["event"] == "run"}


Drive = Callable[..., Driven]


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    monkeypatch.delenv("SAFEDL_DB", raising=False)
    return Workspace.open(tmp_path)


@pytest.fixture
def run(workspace: Workspace) -> Drive:
    """Return a function that drives the small profile; `listen` is called with every event."""

    def go(listen: Callable[[Event], None] = lambda _: None, at: Workspace = workspace, **options: Any) -> Driven:
        request = Request(profile=parse(PROFILE), **{"workers": 2, "device": "cpu", **options})
        prepared = prepare(at, request)
        events: list[Event] = []

        def listener(item: Event) -> None:
            events.append(item)
            listen(item)

        assert threading.current_thread() is threading.main_thread()
        code, hanging = drive(at, prepared, listener)
        return Driven(prepared.request.experiment or "", code, hanging, events)

    return go
