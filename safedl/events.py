"""What a driver says while it works: one JSON object a line, in `events.jsonl` and on stdout with `--json`.

| event | further keys |
|---|---|
| `experiment` | `status`: started, completed, incomplete, cancelled, failed |
| `run` | `status`: queued, running, completed, failed, cancelled, skipped, interrupted, linked; `error` |
| `progress` | `phase`, `done`, `total`, `fraction` (of this phase, in [0, 1]) |
| `metric` | `name`, `step`, `value`: one point of a curve |
| `log` | `level` (info, warning, error), `message` |
| `result` | `metrics`: the final values of a run |

Each has `event`, `at` (UTC, ISO 8601) and `uid` (of the run, or of the experiment).
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

Event = dict[str, Any]

HEADLINES = {
    "clean_accuracy": "accuracy", "asr": "ASR", "adversarial_accuracy": "adversarial", "tpr": "TPR", "fpr": "FPR",
}  # fmt: skip
"""What of a run's final values is said in one line, and by which word."""


def now() -> str:
    """Return the present time in UTC, ISO 8601 with microseconds."""
    return datetime.now(UTC).isoformat()


def event(kind: str, uid: str, **data: Any) -> Event:
    """Build an event of `kind` that concerns the run or experiment `uid`."""
    return {"event": kind, "at": now(), "uid": uid, **data}


def finite(value: Any) -> Any:
    """Replace NaN and infinities by None, at any depth: JSON has no such numbers."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(k): finite(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [finite(v) for v in value]
    return value


def encode(item: Event) -> str:
    """Return the event as one line of JSON, without the line break; see `harmless`."""
    return harmless(json.dumps(finite(item), ensure_ascii=False, allow_nan=False))


def harmless(text: str) -> str:
    """Return JSON with what a terminal would obey, and what is no valid Unicode, as escapes: it means the same."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c == "\n" else json.dumps(c)[1:-1] for c in text)


def is_torn(path: Path) -> bool:
    """Return whether a file ends in the middle of a line, which whoever appends to it has to end first."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, file.seek(0, 2) - 1))
            return file.read(1) not in (b"", b"\n")
    except FileNotFoundError:
        return False


def read(path: Path) -> list[Event]:
    """Return the events of a file; a missing file has none, a torn last line is left out."""
    return read_from(path, 0)[0]


def read_from(path: Path, offset: int) -> tuple[list[Event], int]:
    """Return the complete events after byte `offset`, and the offset to go on from."""
    try:
        with path.open("rb") as file:
            file.seek(offset)
            data = file.read()
    except FileNotFoundError:
        return [], offset
    end = data.rfind(b"\n") + 1
    events = []
    for line in data[:end].splitlines():
        try:
            item = json.loads(line)
        except ValueError:
            continue  # a line torn by a full disk; what follows it is still good
        if isinstance(item, dict) and "event" in item and "uid" in item:
            events.append(item)
    return events, offset + end
