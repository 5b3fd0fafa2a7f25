"""Attacks: one file per method, in a package per category. `load_*` find the function of a catalog entry."""

from __future__ import annotations

from typing import Any, cast

from safedl import loading
from safedl.attacks.contract import Perturb, Poison
from safedl.catalog import AttackSpec

_PACKAGES = {"data_poisoning": "poisoning", "backdoor": "backdoor", "evasion": "evasion", "privacy": "privacy"}


def load_poison(spec: AttackSpec) -> Poison:
    """Return the `poison` function of an attack on training data."""
    return cast(Poison, _module(spec).poison)


def load_perturb(spec: AttackSpec) -> Perturb:
    """Return the `perturb` function of an attack at test time."""
    return cast(Perturb, _module(spec).perturb)


def _module(spec: AttackSpec) -> Any:
    return loading.load(f"safedl.attacks.{_PACKAGES[spec.category]}.{spec.name}")
