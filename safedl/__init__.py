"""Safe-DL: which attacks hurt an image classifier, which defenses help, what they cost, may it ship.

The names in `__all__` are the library's: see `docs/library.md`. Each is loaded when it is first used, so that
`import safedl` costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from safedl.attacks.contract import Poisoning, Trigger
    from safedl.data.imageset import ImageSet
    from safedl.defenses.contract import Detection, Repaired
    from safedl.errors import SafedlError, UsageError
    from safedl.library import detect, poison, repair
    from safedl.models.classifier import Classifier
    from safedl.store.queries import runs
    from safedl.store.sql import query
    from safedl.workspace import Workspace

__version__ = "0.1.0"

__all__ = [
    "Classifier", "Detection", "ImageSet", "Poisoning", "Repaired", "SafedlError", "Trigger", "UsageError", "Workspace",
    "detect", "poison", "query", "repair", "runs",
]  # fmt: skip

_PLACES = {
    "Classifier": "models.classifier",
    "Detection": "defenses.contract",
    "ImageSet": "data.imageset",
    "Poisoning": "attacks.contract",
    "Repaired": "defenses.contract",
    "SafedlError": "errors",
    "Trigger": "attacks.contract",
    "UsageError": "errors",
    "Workspace": "workspace",
    "detect": "library",
    "poison": "library",
    "query": "store.sql",
    "repair": "library",
    "runs": "store.queries",
}


if not TYPE_CHECKING:  # a type checker would take any name for a public one

    def __getattr__(name: str) -> Any:
        if name not in _PLACES:
            raise AttributeError(f"module 'safedl' has no attribute '{name}'")
        return getattr(importlib.import_module(f"safedl.{_PLACES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
