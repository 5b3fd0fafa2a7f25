"""Scans as a driver leaves them, in the store and in the run's folder, and what tests ask of them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from safedl.events import Event
from safedl.review import IMAGES, Decision, Suspect, read_decisions, write_suspects
from safedl.workspace import Workspace
from tests.store.samples import Workplace, experiment, finished, run
from tui.app import SafedlApp
from tui.widgets.suspects import SuspectGrid

FIRST = "#100"
"""The suspect with the highest score."""
CLASSES = ("T-shirt/top", "[red]shoe[/]", "ankle boot", "bag")
DETECTORS = ("activation_clustering", "spectral_signatures")
EVIDENCE = (
    "40 samples labelled ankle boot lie apart from the others of their class: 40 of them carry the same patch.",
    "Two detectors agree on 38 samples, at a false-alarm rate of 1 %.",
)
LIMITS = ("Triggers that change with every image.", "Poison below 0.5 % of a class.")


def suspects(count: int) -> list[Suspect]:
    """Return suspects in three groups; every fifth looks like no other class, every other one has a file."""
    return [
        Suspect(
            index=100 + 7 * i,
            file=f"train/ankle boot/{100 + 7 * i}.png" if i % 2 else None,
            given_label=2,
            proposed_label=None if i % 5 == 4 else i % 2,
            score=1 - i / (count + 1),
            detectors=DETECTORS[: 1 + i % 2],
            group=i % 3,
        )
        for i in range(count)
    ]


def pictures(count: int, channels: int = 1, side: int = 28) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Return images with a bright patch in the lower right, and a bar that moves."""
    images = np.full((count, channels, side, side), 40, np.uint8)
    images[:, :, -4:, -4:] = 255
    for i in range(min(count, 200)):
        images[i, :, :, 1 + i % (side // 2)] = 180
    return images


def result(count: int, **changes: Any) -> dict[str, Any]:
    """Return the `result.json` of a scan with so many suspects."""
    evidence = EVIDENCE if count else ["No class has a part that lies apart from the others."]
    details = {
        "verdict": "poisoned" if count else "no evidence", "evidence": evidence, "limits": LIMITS,
        "target_classes": [2] if count else [], "false_alarm_rate": 0.01, "suspects": count, **changes,
    }  # fmt: skip
    return {
        "uid": "scan-1", "kind": "scan", "dataset": "mine", "model": "cnn", "seed": 0, "class_names": CLASSES,
        "metrics": {}, "before": {}, "details": details, "timing": {},
    }  # fmt: skip


def add_scan(workspace: Workspace, count: int, uid: str = "scan-1", *, images: bool = True, **changes: Any) -> None:
    """Write a completed scan."""
    work = Workplace(workspace.root)
    record = run(uid, "scan", stage="scan@0", dataset="mine", attack=None, category=None, experiment=f"e-{uid}")
    work.begin(experiment(f"e-{uid}", name="mine"), [record])
    at = "2026-01-02T03:04:05.678+00:00"
    work.apply([{**item, "at": at} for item in finished(uid, {"seconds": 12.0})])
    work.recorder.close()
    folder = workspace.run_folder(uid)
    (folder / "files").mkdir()
    (folder / "result.json").write_text(json.dumps({**result(count, **changes), "uid": uid}))
    write_suspects(folder, suspects(count))
    if images:
        np.save(folder / IMAGES, pictures(count))


def scan_events(status: Sequence[str] = ("running", "completed")) -> list[Event]:
    """Return the events of an experiment that is a scan, up to its last `status`."""
    stage = {"uid": "scan-1", "id": "scan@0", "kind": "scan", "parent": None, "label": "scan"}
    at = "2026-11-23T03:41:52.000+00:00"
    begin = {"event": "experiment", "at": at, "uid": "e-scan-1", "status": "started", "name": "mine", "stages": [stage]}
    items: list[Event] = [begin]
    for word in status:
        items.append({"event": "run", "at": at, "uid": "scan-1", "status": word})
        if word == "running":
            items.append({"event": "progress", "at": at, "uid": "scan-1", "phase": "spectral_signatures",
                          "done": 3, "total": 10})  # fmt: skip
    return items


def grid_of(app: SafedlApp) -> SuspectGrid:
    """Return the pictures of the Review pane."""
    return app.main.query_one(SuspectGrid)


def decided(workspace: Workspace) -> dict[int, Decision]:
    """Return what has been recorded about the suspects of the first scan."""
    return read_decisions(workspace.results, "scan-1")
