"""Attacks: one file per method, in a package per category. `load` finds the function of a catalog entry."""

from __future__ import annotations

import importlib
from typing import cast

from safedl.attacks.contract import Poison
from safedl.catalog import AttackSpec

_PACKAGES = {"data_poisoning": "poisoning", "backdoor": "backdoor", "evasion": "evasion", "privacy": "privacy"}


def load(spec: AttackSpec) -> Poison:
    """Return the `poison` function of an attack on training data."""
    module = importlib.import_module(f"safedl.attacks.{_PACKAGES[spec.category]}.{spec.name}")
    return cast(Poison, module.poison)
