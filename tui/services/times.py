"""Moments as the clock on the wall tells them; the record tells UTC."""

from __future__ import annotations

from datetime import datetime


def local(at: object, form: str) -> str:
    """Return a recorded moment in the time of the place, in a form of `strftime`; empty for what is no moment."""
    try:
        return f"{datetime.fromisoformat(str(at)).astimezone():{form}}"
    except (ValueError, OverflowError):
        return ""
