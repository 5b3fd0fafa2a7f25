"""Fetching the archives of built-in data sets, with progress, cancelling and checksums."""

from __future__ import annotations

import hashlib
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path

from safedl.errors import UsageError
from safedl.progress import Progress

BLOCK = 1 << 18
TIMEOUT = 30.0


@dataclass(frozen=True)
class Archive:
    """A file to fetch from the first of `urls` that has it. `path` is below the data folder; `md5` its checksum."""

    urls: tuple[str, ...]
    path: str
    md5: str


def fetch(archives: Sequence[Archive], root: Path, progress: Progress) -> None:
    """Fetch the archives that are not below `root` yet. Raises `UsageError` with the reason if one cannot be had.

    A file appears under its name only when it is complete and its checksum is right.
    """
    for archive in archives:
        target = root / archive.path
        if target.is_file() and _md5(target) == archive.md5:
            continue
        reasons = []
        for url in archive.urls:
            try:
                _fetch(url, target, archive.md5, progress)
                break
            except (OSError, ValueError, HTTPException) as error:
                reasons.append(f"{url}: {error}")
        else:
            raise UsageError(f"cannot download {target.name}: {'; '.join(reasons)}")


def _fetch(url: str, target: Path, md5: str, progress: Progress) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f"{target.name}.part")
    progress.log(f"downloading {url}")
    state = hashlib.md5(usedforsecurity=False)
    try:
        request = urllib.request.Request(url, headers={"User-Agent": "safedl"})
        with urllib.request.urlopen(request, timeout=TIMEOUT) as response, partial.open("wb") as file:
            total, done = int(response.headers.get("Content-Length") or 0), 0
            while block := response.read(BLOCK):
                file.write(block)
                state.update(block)
                done += len(block)
                progress.step(f"download {target.name}", done, max(total, done))
        if state.hexdigest() != md5:
            raise ValueError("the file is not the published one: its checksum differs")
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)


def _md5(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "md5").hexdigest()
