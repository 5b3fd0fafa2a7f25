"""What a run leaves for people and programs: result JSON, Markdown report, pictures. Start at `write` and `publish`."""

from __future__ import annotations

from safedl.reports.files import write_text
from safedl.reports.publisher import publish
from safedl.reports.writer import write

__all__ = ["publish", "write", "write_text"]
