"""Alembic's entry. Safe-DL runs it by `safedl.store.migrate`, which prepares the connection and holds the lock."""

from __future__ import annotations

from alembic import context

from safedl.store.models import Table

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Table.metadata,
    render_as_batch=True,  # SQLite cannot alter a column: the table is replaced
)
with context.begin_transaction():
    context.run_migrations()
