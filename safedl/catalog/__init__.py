"""What can be chosen: attacks, defenses, data sets, models. Imports neither torch nor sklearn.

A new method is one entry in one of the lists below, and one file with its function.
"""

from __future__ import annotations

from safedl.catalog.attacks import backdoor as backdoor_attacks
from safedl.catalog.attacks import evasion as evasion_attacks
from safedl.catalog.attacks import poisoning as poisoning_attacks
from safedl.catalog.defenses import backdoor as backdoor_defenses
from safedl.catalog.defenses import evasion as evasion_defenses
from safedl.catalog.defenses import poisoning as poisoning_defenses
from safedl.catalog.spec import CATEGORY_ALIASES, AttackSpec, Category, DefenseSpec, Measure, Params, parameter_table
from safedl.errors import UsageError, nearest

__all__ = [
    "ATTACKS", "ATTACK_NAMES", "CATEGORIES", "DEFENSES", "PLANNED_ATTACKS", "PLANNED_DEFENSES", "AttackSpec",
    "Category", "DefenseSpec", "Measure", "Params", "attack", "category", "defense", "defenses_for", "parameter_table",
]  # fmt: skip

CATEGORIES: tuple[Category, ...] = ("data_poisoning", "backdoor", "evasion", "privacy")

ATTACKS: dict[str, AttackSpec] = {
    a.name: a for a in (*poisoning_attacks.ATTACKS, *backdoor_attacks.ATTACKS, *evasion_attacks.ATTACKS)
}

DEFENSES: dict[str, DefenseSpec] = {
    d.name: d for d in (*poisoning_defenses.DEFENSES, *backdoor_defenses.DEFENSES, *evasion_defenses.DEFENSES)
}

PLANNED_ATTACKS = ("model_extraction", "membership_inference", "model_inversion")
"""Names of the published framework, all of them privacy attacks, that a profile may hold: they are skipped."""
PLANNED_DEFENSES = ("strip",)
"""Defenses that a profile may hold: they are skipped."""

ATTACK_NAMES = {alias: spec.name for spec in ATTACKS.values() for alias in (spec.name, *spec.aliases)}
"""Each name that an attack may be called by, its aliases among them, with the name it has."""


def attack(name: str) -> AttackSpec:
    """Return the attack called `name` (aliases allowed). Raises `UsageError` with the nearest name."""
    if name not in ATTACK_NAMES:
        raise UsageError(f"unknown attack '{name}'.{nearest(name, ATTACK_NAMES)} Known: {', '.join(ATTACKS)}")
    return ATTACKS[ATTACK_NAMES[name]]


def defense(name: str) -> DefenseSpec:
    """Return the defense called `name`. Raises `UsageError` with the nearest name."""
    if name not in DEFENSES:
        raise UsageError(f"unknown defense '{name}'.{nearest(name, DEFENSES)} Known: {', '.join(DEFENSES)}")
    return DEFENSES[name]


def defenses_for(attack_name: str) -> tuple[DefenseSpec, ...]:
    """Return the defenses that apply to an attack, in catalog order."""
    return tuple(d for d in DEFENSES.values() if attack_name in d.applies_to)


def category(name: str) -> Category:
    """Return the category that `name` means (older spellings allowed). Raises `UsageError` if there is none."""
    resolved = CATEGORY_ALIASES.get(name, name)
    for known in CATEGORIES:
        if resolved == known:
            return known
    choices = (*CATEGORIES, *CATEGORY_ALIASES)
    raise UsageError(f"unknown category '{name}'.{nearest(name, choices)} Known: {', '.join(CATEGORIES)}")
