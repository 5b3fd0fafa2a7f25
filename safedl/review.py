"""What a scan suspects, and what a person decides about each: files in the run's folder and in `results/notes`.

Suspects lie in the run's folder, ranked, as JSON Lines beside an array of their images, so that a long list is read
page by page. Decisions are a file of their own: a person's words outlive the store.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from tokenize import TokenError
from typing import TYPE_CHECKING, Any

from filelock import FileLock

from safedl.errors import UsageError
from safedl.profile.load import read_text
from safedl.profile.names import check_name
from safedl.profile.problems import quoted
from safedl.reports import write_text

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

SUSPECTS = "files/suspects.jsonl"
IMAGES = "files/suspect_images.npy"
HEAD = "Decisions about the suspects of a scan, by position in the data: keep, drop, or the class to relabel to."

Decision = str | int
"""`keep`, `drop`, or the index of the class that the sample really belongs to."""
KEEP, DROP = "keep", "drop"

_DIGITS = 18
"""As many as fit into 64 bits; Python itself refuses to read some thousands."""
_LINE = re.compile(rf"""\s*(["']?)(\d{{1,{_DIGITS}}})\1\s*:\s*(keep|drop|\d{{1,{_DIGITS}}})\s*(?:#.*)?""", re.ASCII)
"""A decision as a line of YAML. Read line by line: a large group makes more of them than a profile may hold."""
_WORDS = "keep, drop, or the index of a class"
_DAMAGE = (ValueError, TypeError, KeyError, OverflowError, RecursionError)
"""What a line that is no suspect raises: an endless number overflows, brackets in brackets recurse too deep."""


@dataclass(frozen=True)
class Suspect:
    """One suspicious sample. `index`: its position in the data as it was read; `file`: its path, for image folders.

    `score` in [0, 1]: one minus the share of clean images that score as high; `group` numbers samples that were
    found together (a cluster), so that they can be decided on at once.
    """

    index: int
    file: str | None
    given_label: int
    proposed_label: int | None
    score: float
    detectors: tuple[str, ...]
    group: int


@dataclass(frozen=True)
class Changes:
    """What is to be done to a data set: positions to leave out, and new classes by position."""

    dropped: frozenset[int]
    relabelled: Mapping[int, int]


def write_suspects(folder: Path, suspects: Iterable[Suspect]) -> None:
    """Write the ranked suspects into a run's folder."""
    write_text(folder / SUSPECTS, "".join(json.dumps(asdict(s)) + "\n" for s in suspects))


def read_suspects(folder: Path, start: int = 0, count: int | None = None) -> list[Suspect]:
    """Return `count` suspects from position `start` of the ranked list; all by default, none if there is no list.

    Raises `UsageError` naming file and line.
    """
    return list(islice(each_suspect(folder, start), count))


def each_suspect(folder: Path, start: int = 0) -> Iterator[Suspect]:
    """Yield the suspects from position `start` on, one at a time. Raises as `read_suspects` does."""
    path = folder / SUSPECTS
    if not path.exists():
        return
    with path.open(encoding="utf-8", errors="replace") as lines:
        for number, line in enumerate(islice(lines, start, None), start + 1):
            try:
                suspect = _suspect(json.loads(line))
            except _DAMAGE as error:
                raise UsageError(f"{path}: line {number} is no suspect: {error!r}; scan again") from error
            yield suspect


def suspect_images(folder: Path) -> NDArray[np.uint8]:
    """Return the images uint8 [S, C, H, W] of the suspects in their order, mapped from the disk.

    Raises `OSError` where there is no such file, `ValueError` where it holds no array.
    """
    import numpy as np

    try:  # `np.load` has other words for an empty file, and opens zip files too
        images: NDArray[np.uint8] = np.lib.format.open_memmap(folder / IMAGES, mode="r")
    except TokenError as error:
        raise ValueError(f"{folder / IMAGES} is damaged: {error}") from error
    return images


def path_of(results: Path, uid: str) -> Path:
    """Return the file of the decisions about a scan's suspects. Raises `UsageError` for an uid that is no file name."""
    return results / "notes" / "reviews" / f"{check_name(uid)}.yaml"


def read_decisions(results: Path, uid: str) -> dict[int, Decision]:
    """Return the decisions by position; none if nobody decided yet. Raises `UsageError` naming file and line."""
    path = path_of(results, uid)
    if not path.exists():
        return {}
    found: dict[int, Decision] = {}
    for number, line in enumerate(read_text(path).splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        match = _LINE.fullmatch(line)
        if match is None or int(match[2]) in found:
            why = f"is no decision; write {_WORDS}" if match is None else "stands there twice; take one out"
            raise UsageError(f"{path}: line {number}: {quoted(line.strip())} {why}")
        found[int(match[2])] = match[3] if match[3] in (KEEP, DROP) else int(match[3])
    return found


def decide(results: Path, uid: str, changes: Mapping[int, Decision | None]) -> Path:
    """Set decisions by position, or take them back (None), in one step; return the file. Others' decisions stay.

    Raises `UsageError` for what could not be read again; nothing is written then.
    """
    path = path_of(results, uid)
    for index, decision in changes.items():
        if decision is not None and not (_is_index(index) and (decision in (KEEP, DROP) or _is_index(decision))):
            told = f"{quoted(decision)} for position {quoted(index)}"
            raise UsageError(f"{path}: {told} cannot be written; a position from 0 on takes {_WORDS}")
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_suffix(".lock")):
        merged: dict[int, Decision | None] = {**read_decisions(results, uid), **changes}
        lines = (f"{i}: {d}\n" for i, d in sorted(merged.items()) if d is not None)
        write_text(path, f"# {HEAD}\n" + "".join(lines))
    return path


def final_changes(suspects: Sequence[Suspect], decisions: Mapping[int, Decision]) -> Changes:
    """Return what follows for the data: a suspect that nobody decided about is left out."""
    verdicts: dict[int, Decision] = {**{s.index: DROP for s in suspects}, **decisions}
    dropped = frozenset(i for i, verdict in verdicts.items() if verdict == DROP)
    return Changes(dropped, {i: verdict for i, verdict in verdicts.items() if isinstance(verdict, int)})


def _is_index(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 10**_DIGITS


def _suspect(values: Mapping[str, Any]) -> Suspect:
    file, proposed = values["file"], values["proposed_label"]
    return Suspect(
        index=int(values["index"]),
        file=None if file is None else str(file),
        given_label=int(values["given_label"]),
        proposed_label=None if proposed is None else int(proposed),
        score=float(values["score"]),
        detectors=tuple(str(name) for name in values["detectors"]),
        group=int(values["group"]),
    )
