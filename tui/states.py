"""How states look: a glyph and a word, and a colour that only repeats them."""

from __future__ import annotations

import locale
from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Look:
    """A state's glyph (one cell), word, and colour."""

    glyph: str
    word: str
    colour: str = ""


LOOKS = {
    "queued": Look("·", "waiting"),
    "started": Look("▶", "running", "cyan"),
    "running": Look("▶", "running", "cyan"),
    "stopping": Look("◌", "stopping", "yellow"),
    "completed": Look("✓", "done", "green"),
    "linked": Look("✓", "done before", "green"),
    "incomplete": Look("✗", "incomplete", "red"),
    "failed": Look("✗", "failed", "red"),
    "cancelled": Look("■", "cancelled", "yellow"),
    "skipped": Look("–", "skipped"),
    "interrupted": Look("!", "interrupted", "red"),
}
VERDICTS = {
    "poisoned": Look("✗", "poisoned", "red"),
    "suspicious": Look("!", "suspicious", "yellow"),
    "no evidence": Look("✓", "no evidence", "green"),
}
"""What a scan may end in."""
DECISIONS = {
    "keep": Look("✓", "keep", "green"),
    "drop": Look("✗", "drop", "red"),
    "relabel": Look("→", "relabel", "cyan"),
    "": Look("?", "undecided"),
}
"""What may be decided about a suspect."""
ASCII = {
    "→": ">", "·": ".", "▶": ">", "◌": "~", "✓": "v", "✗": "x", "■": "#", "–": "-",
    "●": "*", "•": "*", "›": ">", "★": "*",
}  # fmt: skip
"""What stands for a glyph where the terminal shows no Unicode."""


def look(status: str) -> Look:
    """Return how a state looks; an unknown one is shown by its own name."""
    return fitting(LOOKS.get(status, Look("?", status)))


def look_of_verdict(verdict: str) -> Look:
    """Return how a scan's verdict looks."""
    return fitting(VERDICTS.get(verdict, Look("?", verdict)))


def look_of_decision(decision: str) -> Look:
    """Return how a decision looks: keep, drop, relabel, or "" for none."""
    return fitting(DECISIONS[decision])


def fitting(found: Look) -> Look:
    """Return a look with the glyph that the terminal shows."""
    return replace(found, glyph=sign(found.glyph))


def sign(glyph: str) -> str:
    """Return a glyph, or what stands for it where the terminal shows no Unicode."""
    return glyph if unicode_works() else ASCII.get(glyph, glyph)


def unicode_works() -> bool:
    """Return whether the locale says that the terminal shows Unicode."""
    return "utf" in locale.getpreferredencoding(False).lower()


def bar(fraction: float, width: int) -> str:
    """Return a bar of `width` cells, filled to eighths of a cell."""
    eighths = round(max(0.0, min(1.0, fraction)) * width * 8)
    full, rest = divmod(eighths, 8)
    if not unicode_works():
        return "#" * full + "." * (width - full)
    return ("█" * full + (" ▏▎▍▌▋▊▉"[rest] if rest else "")).ljust(width, "·")
