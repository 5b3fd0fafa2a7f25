from __future__ import annotations

import json
import math
from pathlib import Path

from safedl import events


def test_numbers_that_json_lacks_become_null() -> None:
    line = events.encode(events.event("result", "r1", metrics={"a": math.nan, "b": [math.inf, 1.0]}))
    assert json.loads(line)["metrics"] == {"a": None, "b": [None, 1.0]}


def test_torn_last_line_is_left_for_later(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    first = events.encode(events.event("log", "r1", level="info", message="é\n"))
    path.write_text(first + "\n" + '{"event": "log", "uid"', encoding="utf-8")
    found, offset = events.read_from(path, 0)
    assert [e["message"] for e in found] == ["é\n"]
    with path.open("a") as file:
        file.write(': "r2"}\n')
    more, _ = events.read_from(path, offset)
    assert [e["uid"] for e in more] == ["r2"]


def test_garbage_is_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_bytes(b'\xff\xfe\n[1]\n{"event": "log"}\n{"event": "log", "uid": "r1"}\n')
    assert [e["uid"] for e in events.read(path)] == ["r1"]


def test_missing_file_has_no_events(tmp_path: Path) -> None:
    assert list(events.read(tmp_path / "none.jsonl")) == []
