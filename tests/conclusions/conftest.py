from __future__ import annotations

from tests.store.conftest import work

__all__ = ["work"]
