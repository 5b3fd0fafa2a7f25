"""Defenses: one file per method. `load` finds the function of a catalog entry, which is named after its kind."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from safedl import loading
from safedl.catalog import DefenseSpec
from safedl.defenses.contract import Scenario
from safedl.defenses.guard import Guard
from safedl.models.classifier import Classifier


def load(spec: DefenseSpec) -> Callable[[Scenario, Any], Any]:
    """Return the function of a defense: `detect`, `train`, `repair`, `diagnose` or `guard`."""
    module = loading.load(f"safedl.defenses.{spec.name}")
    return cast(Callable[[Scenario, Any], Any], getattr(module, spec.kind))


def load_wrap(spec: DefenseSpec) -> Callable[[Classifier, Any], Guard]:
    """Return the function `wrap(model, params)` of a guard, which puts it before a model without training any."""
    module = loading.load(f"safedl.defenses.{spec.name}")
    return cast(Callable[[Classifier, Any], Guard], module.wrap)
