"""A profile that has been checked: settings, and what was chosen from the catalog."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safedl.catalog import AttackSpec, DefenseSpec, Params
from safedl.catalog.settings import AcceptanceSettings, DatasetSettings, ModelSettings, ScanSettings, TrainingSettings


@dataclass(frozen=True)
class DefenseChoice:
    """A defense of the catalog with its checked parameters."""

    spec: DefenseSpec
    params: Params


@dataclass(frozen=True)
class AttackChoice:
    """An attack of the catalog with its checked parameters and the defenses to try against it."""

    spec: AttackSpec
    params: Params
    defenses: tuple[DefenseChoice, ...] = ()


@dataclass(frozen=True)
class Profile:
    """A checked profile. `document` is the whole YAML content as read, unknown sections included."""

    name: str
    path: Path | None
    dataset: DatasetSettings | None
    model: ModelSettings | None
    training: TrainingSettings
    acceptance: AcceptanceSettings
    attacks: tuple[AttackChoice, ...]
    scan: ScanSettings = field(default_factory=ScanSettings)
    threat_model: Mapping[str, Any] = field(default_factory=dict)
    risk_analysis: Mapping[str, Any] = field(default_factory=dict)
    document: Mapping[str, Any] = field(default_factory=dict)
    skipped: tuple[str, ...] = ()
    """One line for each attack or defense that the profile names and that is not simulated."""
    missing: tuple[str, ...] = ()
    """One line for each section that a run needs and the profile lacks, with what to add."""
    notes: tuple[str, ...] = ()
    """One line for each thing that is accepted and looks like a mistake (`defence_config`)."""
