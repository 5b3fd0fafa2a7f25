"""What defenses that rely on the trusted holdout share."""

from __future__ import annotations

from safedl.defenses.contract import Scenario
from safedl.errors import UsageError


def require_trusted(scenario: Scenario, defense: str) -> None:
    """Raise `UsageError` if there is no trusted holdout."""
    if not len(scenario.trusted):
        raise UsageError(
            f"{defense}: needs trusted data, and dataset.trusted_fraction holds out none; "
            "set it above 0 or choose variant: literal"
        )
