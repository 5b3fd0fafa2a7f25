"""The planted and the clean digits of the defenses' tests."""

from __future__ import annotations

from tests.defenses.conftest import backdoored, clean_scenario, kept

__all__ = ["backdoored", "clean_scenario", "kept"]
