"""Content-addressed artifacts: the same inputs are computed once, whoever asks.

An artifact is a folder `<root>/<kind>/<key[:2]>/<key>/` with its files and a `manifest.json` (sha256 and
size of each file, seconds it took, who made it). It is built in a temporary folder and moved into place whole,
so a killed builder leaves nothing that could be mistaken for an artifact.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

FORMAT = 1
MANIFEST = "manifest.json"


def digest(value: Any) -> str:
    """Return the sha256 of a JSON-like value in its canonical form."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def file_digest(path: Path) -> str:
    """Return the sha256 of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def acquire(lock: FileLock, waiting: Callable[[], None]) -> None:
    """Acquire a lock, however long it takes; `waiting` is called about every 0.2 seconds, and may raise to give up."""
    while True:
        try:
            lock.acquire(timeout=0.2)
            return
        except Timeout:
            waiting()


@dataclass(frozen=True)
class Artifact:
    """A finished artifact on disk. `seconds` is what it took to build, `hit` whether it was there already."""

    kind: str
    key: str
    path: Path
    seconds: float
    size: int
    created_at: float
    hit: bool = True


class ArtifactCache:
    """Artifacts below `root`. Safe for several threads and processes: one builds, the others wait."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def folder(self, kind: str, key: str) -> Path:
        """Return where the artifact lies, or would lie."""
        return self.root / kind / key[:2] / key

    def find(self, kind: str, key: str) -> Artifact | None:
        """Return the artifact if it is there and its manifest can be read, after checking its files' sizes."""
        path = self.folder(kind, key)
        try:
            manifest = json.loads((path / MANIFEST).read_text())
            own = (manifest["kind"], manifest["key"]) == (kind, key) and manifest["files"]
            if own and all((path / name).stat().st_size == meta["size"] for name, meta in manifest["files"].items()):
                return _artifact(kind, key, path, manifest)
        except (OSError, ValueError, KeyError, TypeError):
            pass
        return None

    def get(
        self,
        kind: str,
        key: str,
        build: Callable[[Path], None],
        producer: str = "",
        waiting: Callable[[], None] = lambda: None,
    ) -> Artifact:
        """Return the artifact, building it with `build(folder)` if it is missing or damaged.

        Files are checked against their sha256 before they are handed out; a damaged artifact is built again.
        `waiting` is called a few times a second while somebody else builds it; it may raise to give up.
        """
        found = self.find(kind, key)
        if found and self.intact(found):
            return found
        with self._lock(kind, key, waiting):
            found = self.find(kind, key)
            if found and self.intact(found):
                return found
            shutil.rmtree(self.folder(kind, key), ignore_errors=True)
            return self._build(kind, key, build, producer)

    def intact(self, artifact: Artifact) -> bool:
        """Return whether every file still has the sha256 it was stored with."""
        try:
            files = json.loads((artifact.path / MANIFEST).read_text())["files"]
            return all(file_digest(artifact.path / name) == meta["sha256"] for name, meta in files.items())
        except (OSError, ValueError, KeyError, TypeError):
            return False

    def entries(self) -> Iterator[Artifact]:
        """Yield every artifact with a readable manifest."""
        for manifest in sorted(self.root.glob(f"*/??/*/{MANIFEST}")):
            found = self.find(manifest.parents[2].name, manifest.parent.name)
            if found:
                yield found

    def damaged(self) -> list[Path]:
        """Return the folders whose manifest or files are missing, unreadable or altered."""
        bad = []
        for path in sorted(self.root.glob("*/??/*")):
            found = self.find(path.parents[1].name, path.name)
            if (found is None or not self.intact(found)) and path.exists():  # else it was removed meanwhile
                bad.append(path)
        return bad

    def remove(self, path: Path) -> bool:
        """Delete an artifact's folder unless somebody is building it; return whether it is gone."""
        kind, key = path.parents[1].name, path.name
        try:
            with self._file_lock(kind, key).acquire(timeout=0):
                aside = self._temporary(kind, key)
                with suppress(OSError):
                    aside.parent.mkdir(exist_ok=True)
                    path.replace(aside)  # it goes whole: what one that is killed leaves is a leftover like others
                for folder in (aside, path):
                    shutil.rmtree(folder, ignore_errors=True)
        except Timeout:
            return False
        return not path.exists()

    def remove_leftovers(self) -> int:
        """Delete what was left half-built or half-deleted, and return how many they were; living ones are let be."""
        found = {path.name.rpartition(".")[0] for path in (self.root / "tmp").glob("*.*")}
        gone = 0
        for kind, key in sorted(name.rpartition("-")[::2] for name in found):
            try:
                with self._file_lock(kind, key).acquire(timeout=0):
                    gone += self._clear(kind, key)
            except Timeout:
                continue
        return gone

    def _clear(self, kind: str, key: str) -> int:
        """Delete half-built folders of an artifact whose lock is held: whoever built there is dead."""
        left = list((self.root / "tmp").glob(f"{kind}-{key}.*"))
        for path in left:
            shutil.rmtree(path, ignore_errors=True)
        return len(left)

    def _temporary(self, kind: str, key: str) -> Path:
        return self.root / "tmp" / f"{kind}-{key}.{uuid.uuid4().hex[:8]}"

    def _file_lock(self, kind: str, key: str) -> FileLock:
        folder = self.root / "locks"
        folder.mkdir(parents=True, exist_ok=True)
        return FileLock(folder / f"{kind}-{key}.lock")

    @contextmanager
    def _lock(self, kind: str, key: str, waiting: Callable[[], None]) -> Iterator[None]:
        lock = self._file_lock(kind, key)
        acquire(lock, waiting)
        try:
            yield
        finally:
            lock.release()

    def _build(self, kind: str, key: str, build: Callable[[Path], None], producer: str) -> Artifact:
        self._clear(kind, key)
        temporary = self._temporary(kind, key)
        temporary.mkdir(parents=True)
        try:
            start = time.perf_counter()
            build(temporary)
            seconds = time.perf_counter() - start
            files = {p.name: {"sha256": file_digest(p), "size": p.stat().st_size} for p in sorted(temporary.iterdir())}
            manifest = {
                "format": FORMAT, "kind": kind, "key": key, "files": files, "seconds": seconds,
                "producer": producer, "created_at": time.time(),
            }  # fmt: skip
            (temporary / MANIFEST).write_text(json.dumps(manifest, indent=1))
            for path in temporary.iterdir():
                _sync(path)
            target = self.folder(kind, key)
            target.parent.mkdir(parents=True, exist_ok=True)
            temporary.replace(target)
            return _artifact(kind, key, target, manifest, hit=False)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def _artifact(kind: str, key: str, path: Path, manifest: dict[str, Any], hit: bool = True) -> Artifact:
    size = sum(meta["size"] for meta in manifest["files"].values())
    return Artifact(kind, key, path, float(manifest["seconds"]), size, float(manifest["created_at"]), hit)


def _sync(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())
