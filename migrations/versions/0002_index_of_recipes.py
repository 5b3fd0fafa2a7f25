"""An index of completed runs by recipe and seed: comparisons count the newest of several."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.create_index("ix_run_recipe", "run", ["recipe", "seed"], sqlite_where=sa.text("status = 'completed'"))


def downgrade() -> None:
    op.drop_index("ix_run_recipe", "run")
