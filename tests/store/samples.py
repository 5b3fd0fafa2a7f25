"""Records and files as a driver writes them, without a driver."""

from __future__ import annotations

import functools
import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml

from safedl.events import Event, encode, event
from safedl.store.recorder import Recorder
from safedl.store.records import ExperimentRecord, RunRecord

DUMPER = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
CREATED = "2026-01-02T03:04:05.000006+00:00"


def experiment(uid: str = "e1", **changes: Any) -> ExperimentRecord:
    values = {"name": "demo", "profile": "demo.yaml", "profile_hash": "h", "config": {"a": 1}, "created_at": CREATED}
    return ExperimentRecord(uid=uid, **{**values, **changes})


def run(uid: str, kind: str = "baseline", **changes: Any) -> RunRecord:
    attack = None if kind == "baseline" else "static_patch"
    values: dict[str, Any] = {
        "kind": kind, "dataset": "digits", "model": "cnn", "seed": 0,
        "stage_key": f"key-{uid}", "params": {"training.epochs": 3, "attack.poison_fraction": 0.1}, "code": "0.1.0",
        "versions": {"torch": "2"}, "created_at": CREATED, "stage": f"{kind}@0", "experiment": "e1",
        "category": "backdoor" if attack else None, "attack": attack,
        "host": "box", "pid": 1, "device": "cpu",
    }  # fmt: skip
    values |= changes
    what = [values.get(name) or "" for name in ("dataset", "model", "attack", "defense", "detector")]
    return RunRecord(uid=uid, **{"recipe": "-".join(["recipe", values["kind"], *what]), **values})


def tree(suffix: str = "", **changes: Any) -> list[RunRecord]:
    """A baseline, an attack, a detector and its two bounds."""
    b, a, d, p, r = (f"{name}{suffix}" for name in ("base", "attack", "clean", "perfect", "random"))
    return [
        run(b, **changes),
        run(a, "attack", parent=b, **changes),
        run(d, "defense", parent=a, defense="data_cleaning", **changes),
        run(p, "bound", parent=a, defense="perfect_removal", **changes),
        run(r, "bound", parent=a, defense="random_removal", detector="data_cleaning", **changes),
    ]


def finished(uid: str, metrics: Mapping[str, Any], status: str = "completed", error: str | None = None) -> list[Event]:
    """The events of a run from its start to its end, in the order in which a driver sends them."""
    return [
        event("run", uid, status="running"),
        event("progress", uid, phase="training", done=1, total=2),
        event("metric", uid, name="loss", step=0, value=2.5),
        event("metric", uid, name="loss", step=1, value=1.5),
        event("log", uid, level="info", message="hello"),
        event("result", uid, metrics=dict(metrics)),
        event("run", uid, status=status, **({"error": error} if error else {})),
    ]


@functools.cache
def _new_store() -> bytes:
    """Return the file of a store as a driver makes it, which takes longer than most tests need for the rest."""
    with tempfile.TemporaryDirectory() as folder:
        db = Path(folder) / "safedl.db"
        Recorder(db).close()
        return db.read_bytes()


class Workplace:
    """A workspace that a driver wrote to: files and store alike."""

    def __init__(self, root: Path) -> None:
        self.db, self.results = root / "safedl.db", root / "results"
        if not self.db.exists():
            root.mkdir(parents=True, exist_ok=True)
            self.db.write_bytes(_new_store())
        self.recorder = Recorder(self.db)

    def begin(self, record: ExperimentRecord, runs: Sequence[RunRecord], linked: Sequence[str] = ()) -> None:
        folder = self.results / "experiments" / record.uid
        folder.mkdir(parents=True, exist_ok=True)
        plan = {**asdict(record), "runs": [r.uid for r in runs] + list(linked), "linked": list(linked), "more": 1}
        (folder / "plan.json").write_text(json.dumps(plan))
        (folder / "driver.lock").touch()
        for r in runs:
            own = self.results / "runs" / r.uid
            own.mkdir(parents=True)
            (own / "config.yaml").write_text(yaml.dump(r.as_dict(), Dumper=DUMPER, sort_keys=False))
        self.recorder.begin(record, runs, linked)

    def apply(self, events: Sequence[Event], *, store: bool = True) -> None:
        """Append events to the runs' files and, unless the driver died before it could, to the store."""
        for item in events:
            folder = self.results / "runs" / item["uid"]
            with (folder / "events.jsonl").open("a") as file:
                file.write(encode(item) + "\n")
            if item["event"] == "result":
                document = {"uid": item["uid"], "metrics": item["metrics"], "timing": {}}
                (folder / "result.json").write_text(json.dumps(json.loads(encode({**item, **document}))))
        if store:
            self.recorder.apply(events)
