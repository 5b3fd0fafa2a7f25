"""Names that become file names: of profiles and experiments."""

from __future__ import annotations

from safedl.errors import UsageError

MAX_LENGTH = 100


def check_name(name: object, what: str = "name") -> str:
    """Return `name` if it can stand for a profile or experiment. Raises `UsageError` that starts with `what`."""
    if not isinstance(name, str):
        raise UsageError(f"{what}: {str(name)[:60]} is not text; put it in quotes")
    if not name.strip():
        raise UsageError(f"{what}: it is empty")
    if len(name) > MAX_LENGTH:
        raise UsageError(f"{what}: longer than {MAX_LENGTH} characters")
    if "/" in name or "\\" in name or not name.isprintable() or name.startswith("."):
        raise UsageError(
            f"{what}: {name!r} is not allowed; it becomes a file name, so no path separators or control characters, "
            "and no dot at the start"
        )
    return name
