from __future__ import annotations

import re
from pathlib import Path

import pytest

from safedl.store import sql
from tests.store.samples import Workplace

TEXT = (Path(__file__).parents[2] / "docs" / "store.md").read_text(encoding="utf-8")
QUERIES = [q for block in re.findall(r"```sql\n(.*?)```", TEXT, re.DOTALL) for q in block.split(";\n") if q.strip()]


@pytest.mark.parametrize("query", QUERIES)
def test_the_questions_of_the_docs_can_be_asked(work: Workplace, query: str) -> None:
    assert sql.query(work.db, query).rows == []


def test_the_docs_name_every_table_and_view(work: Workplace) -> None:
    names = sql.query(work.db, "SELECT name FROM sqlite_master WHERE type IN ('table', 'view')").rows
    missing = [name for (name,) in names if name != "alembic_version" and f"`{name}`" not in TEXT]
    assert missing == []
