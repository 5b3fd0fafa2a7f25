"""Links from a report's figures to the runs that they come from."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from urllib.parse import quote

from safedl.reports.markdown import NOTHING, Markup, escape

RunLink = Callable[[str], str]
"""Returns the address of a run by its uid, relative to the document."""


def runs(uids: Sequence[str], link: RunLink, limit: int = 10) -> Markup:
    """Return the uids as links to their runs, `-` for none; beyond `limit` only their number."""
    shown = [f"[{escape(uid)}]({link(uid)})" for uid in uids[:limit]]
    if len(uids) > limit:
        shown.append(f"... ({len(uids)} in all)")
    return Markup(" ".join(shown) or NOTHING)


def links_from(place: Path, results: Path) -> RunLink:
    """Return what turns a run's uid into the address of its folder in `results`/runs, seen from the folder `place`."""
    base = quote(os.path.relpath(results.absolute() / "runs", place.absolute()).replace(os.sep, "/"))
    return lambda uid: f"{base}/{quote(uid, safe='')}/"
