"""Where events go: the experiment's file, the run's file, whoever listens, and the store."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TextIO

from safedl.errors import SafedlError
from safedl.events import Event, encode, is_torn
from safedl.store.recorder import Recorder

STORE_INTERVAL = 0.5
"""Seconds that progress, curves and log lines may wait before they are stored; changes of state do not wait."""

Listener = Callable[[Event], None]


class Journal:
    """Appends each event to the experiment's `events.jsonl` and to that of the run it concerns."""

    def __init__(self, folder: Path, runs: dict[str, Path], recorder: Recorder, listener: Listener) -> None:
        """Write below `folder` and, for the uids in `runs`, below those folders too."""
        self._folder, self._runs, self._recorder, self._listener = folder, runs, recorder, listener
        path = folder / "events.jsonl"
        torn = is_torn(path)  # by a machine that went down
        self._file = path.open("a", encoding="utf-8")
        if torn:
            _append(self._file, "\n")
        self._run_files: dict[str, TextIO] = {}
        self._pending: list[Event] = []
        self._stored_at = 0.0

    def write(self, events: Sequence[Event]) -> None:
        """Write events down, in order."""
        for item in events:
            line = encode(item) + "\n"
            _append(self._file, line)
            self._append_to_run(item, line)
            self._listener(item)
        self._pending += events
        urgent = any(e["event"] in ("run", "experiment", "result") for e in events)
        if self._pending and (urgent or time.monotonic() - self._stored_at > STORE_INTERVAL):
            self._recorder.apply(self._pending)
            self._pending, self._stored_at = [], time.monotonic()

    def close(self) -> None:
        """Close the files."""
        files: Iterable[TextIO] = (self._file, *self._run_files.values())
        for file in files:
            file.close()

    def _append_to_run(self, item: Event, line: str) -> None:
        uid = item["uid"]
        if uid not in self._runs:
            return
        if uid not in self._run_files:
            try:
                self._run_files[uid] = (self._runs[uid] / "events.jsonl").open("a", encoding="utf-8")
            except FileNotFoundError as error:
                raise SafedlError(
                    f"the folder of run {uid} is gone: {self._runs[uid]}; go on with: safedl resume {self._folder.name}"
                ) from error
        _append(self._run_files[uid], line)
        if item["event"] == "run" and item["status"] != "running":
            self._run_files.pop(uid).close()


def _append(file: TextIO, line: str) -> None:
    file.write(line)
    file.flush()
