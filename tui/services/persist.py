"""What the app remembers between starts: one JSON file in the user's state folder."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any


def default_file() -> Path:
    """Return the file in the user's state folder."""
    from platformdirs import user_state_path

    return user_state_path("safedl") / "app.json"


class Memory:
    """Settings by name. A file that cannot be read or written is no reason to stop.

    Two apps of a user share the file: each writes what it has changed itself, and leaves the rest as it stands.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        self._values = self._read()
        self._changes: dict[str, Any] = {}

    def get(self, name: str, default: Any) -> Any:
        """Return a setting of the same type as `default`, or `default`."""
        value = self._values.get(name, default)
        return value if isinstance(value, type(default)) else default

    def set(self, name: str, value: Any) -> None:
        """Change a setting; `save` writes it."""
        if self._values.get(name) != value:
            self._values[name] = self._changes[name] = value

    def save(self) -> None:
        """Write the file if something has changed."""
        if not self._changes:
            return
        written = self._read() | self._changes
        self._changes = {}
        try:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            aside = self.file.with_name(f".{self.file.name}.{os.getpid()}")
            aside.write_text(json.dumps(written, indent=1, sort_keys=True))
            aside.replace(self.file)
        except OSError:
            return

    def _read(self) -> dict[str, Any]:
        try:
            values = json.loads(self.file.read_text())
        except (OSError, ValueError):
            return {}
        return values if isinstance(values, dict) else {}
