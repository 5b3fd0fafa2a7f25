"""Rows as plain values: what the driver writes down about an experiment and its runs. Imports no database."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

OPEN = ("queued", "running")
"""States that still change. `running` follows `queued` only; a final state may follow either and never changes."""

FINAL = ("completed", "failed", "cancelled", "interrupted", "skipped")
"""States that never change any more; a retry is a new run."""


@dataclass(frozen=True)
class ExperimentRecord:
    """One request to execute a plan: `results/experiments/<uid>/plan.json` holds it, with its runs."""

    uid: str
    name: str
    """The profile's name."""
    profile: str | None
    """The profile's path, None for one that came from standard input."""
    profile_hash: str
    config: Mapping[str, Any]
    """The profile's document, and the options of the request."""
    created_at: str
    note: str | None = None


@dataclass(frozen=True)
class RunRecord:
    """One execution of one stage: `results/runs/<uid>/config.yaml` holds it."""

    uid: str
    kind: str
    dataset: str
    model: str
    seed: int
    recipe: str
    stage_key: str
    params: Mapping[str, Any]
    """The resolved configuration of the whole chain: `training.*`, `attack.*`, `defense.*`."""
    code: str
    versions: Mapping[str, Any]
    created_at: str
    stage: str
    """The stage's id in its plan: `static_patch/activation_clustering@0`."""
    parent: str | None = None
    """The uid of the run that it starts from."""
    experiment: str | None = None
    """The uid of the experiment that made it."""
    category: str | None = None
    attack: str | None = None
    defense: str | None = None
    detector: str | None = None
    """For a random bound: the detector whose number of removals it repeats."""
    attempt: int = 1
    retry_of: str | None = None
    host: str | None = None
    pid: int | None = None
    device: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return the record as plain values, for YAML and JSON."""
        return asdict(self)


@dataclass(frozen=True)
class RunRow:
    """A run as the store knows it: the record, its state and its final metrics."""

    record: RunRecord
    status: str
    error: str | None = None
    progress: float | None = None
    started_at: str | None = None
    finished_at: str | None = None
    metrics: Mapping[str, float | None] = field(default_factory=dict)
