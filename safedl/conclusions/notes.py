"""What people answer to a profile's checklist, in `results/notes/<profile>.yaml`: a file, as `reindex` asks."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from filelock import FileLock

from safedl.decision.answers import Answer, parse_answers
from safedl.profile import document
from safedl.profile.load import read_text
from safedl.profile.names import check_name
from safedl.profile.save import dump
from safedl.reports import write_text

HEAD = "Answers to the deployment checklist; `safedl note` writes them, `safedl check` reads them."


def path_of(results: Path, profile: str) -> Path:
    """Return the file of a profile's answers. Raises `UsageError` for a name that is no file name."""
    return results / "notes" / f"{check_name(profile)}.yaml"


def read(results: Path, profile: str) -> dict[str, Answer]:
    """Return the answers by the item's id; none if nobody answered yet. Raises `UsageError` naming file and key."""
    path = path_of(results, profile)
    if not path.exists():
        return {}
    return parse_answers(document.read(read_text(path), str(path)), str(path))


def change(results: Path, profile: str, item: str, answer: Answer | None) -> Path:
    """Set the answer to one item, or remove it (None), in one step; return the file. Others' answers stay."""
    path = path_of(results, profile)
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_suffix(".lock")):
        answers: Mapping[str, Answer | None] = {**read(results, profile), item: answer}
        given = {id: a.model_dump(mode="json", exclude_defaults=True) for id, a in answers.items() if a is not None}
        write_text(path, dump(given, HEAD))
    return path
