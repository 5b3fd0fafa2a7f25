"""The first schema."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    status = op.create_table(
        "run_status",
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("final", sa.Boolean(), nullable=False),
        sa.Column("ok", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_run_status"),
    )
    op.create_table(
        "experiment",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("uid", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("profile", sa.String()),
        sa.Column("profile_hash", sa.String(), nullable=False),
        sa.Column("config", sa.JSON(), nullable=False),
        sa.Column("created_at", sa.DateTime(), nullable=False),
        sa.Column("note", sa.String()),
        sa.PrimaryKeyConstraint("id", name="pk_experiment"),
        sa.UniqueConstraint("uid", name="uq_experiment_uid"),
    )
    op.create_table(
        "run",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("uid", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("stage", sa.String(), nullable=False),
        sa.Column("parent_id", sa.Integer()),
        sa.Column("experiment_id", sa.Integer()),
        sa.Column("dataset", sa.String(), nullable=False),
        sa.Column("model", sa.String(), nullable=False),
        sa.Column("threat", sa.String()),
        sa.Column("attack", sa.String()),
        sa.Column("defense", sa.String()),
        sa.Column("detector", sa.String()),
        sa.Column("seed", sa.Integer(), nullable=False),
        sa.Column("status", sa.String(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("retry_of", sa.Integer()),
        sa.Column("params", sa.JSON(), nullable=False),
        sa.Column("recipe", sa.String(), nullable=False),
        sa.Column("stage_key", sa.String(), nullable=False),
        sa.Column("code", sa.String(), nullable=False),
        sa.Column("versions", sa.JSON(), nullable=False),
        sa.Column("host", sa.String()),
        sa.Column("pid", sa.Integer()),
        sa.Column("device", sa.String()),
        sa.Column("progress", sa.Float()),
        sa.Column("error", sa.String()),
        sa.Column("created_at", sa.DateTime(), nullable=False),
        sa.Column("started_at", sa.DateTime()),
        sa.Column("finished_at", sa.DateTime()),
        sa.PrimaryKeyConstraint("id", name="pk_run"),
        sa.UniqueConstraint("uid", name="uq_run_uid"),
        sa.ForeignKeyConstraint(["parent_id"], ["run.id"], name="fk_run_parent_id_run", ondelete="RESTRICT"),
        sa.ForeignKeyConstraint(
            ["experiment_id"], ["experiment.id"], name="fk_run_experiment_id_experiment", ondelete="SET NULL"
        ),
        sa.ForeignKeyConstraint(["status"], ["run_status.name"], name="fk_run_status_run_status"),
        sa.ForeignKeyConstraint(["retry_of"], ["run.id"], name="fk_run_retry_of_run"),
    )
    op.create_index("ix_run_cell", "run", ["dataset", "model", "attack", "defense", "kind"])
    op.create_index("ix_run_parent", "run", ["parent_id"])
    op.create_index("ix_run_status", "run", ["status"])
    op.create_index("ix_run_stage", "run", ["stage_key"])
    op.create_index("ix_run_retry", "run", ["retry_of"])
    op.create_index("uq_run_completed", "run", ["stage_key"], unique=True, sqlite_where=sa.text("status = 'completed'"))
    op.create_table(
        "experiment_run",
        sa.Column("experiment_id", sa.Integer(), nullable=False),
        sa.Column("run_id", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("experiment_id", "run_id", name="pk_experiment_run"),
        sa.ForeignKeyConstraint(
            ["experiment_id"], ["experiment.id"], name="fk_experiment_run_experiment_id_experiment", ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(["run_id"], ["run.id"], name="fk_experiment_run_run_id_run", ondelete="CASCADE"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "metric",
        sa.Column("run_id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("value", sa.Float()),
        sa.PrimaryKeyConstraint("run_id", "name", name="pk_metric"),
        sa.ForeignKeyConstraint(["run_id"], ["run.id"], name="fk_metric_run_id_run", ondelete="CASCADE"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "metric_point",
        sa.Column("run_id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("step", sa.Integer(), nullable=False),
        sa.Column("value", sa.Float()),
        sa.PrimaryKeyConstraint("run_id", "name", "step", name="pk_metric_point"),
        sa.ForeignKeyConstraint(["run_id"], ["run.id"], name="fk_metric_point_run_id_run", ondelete="CASCADE"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "event",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("run_id", sa.Integer(), nullable=False),
        sa.Column("at", sa.DateTime(), nullable=False),
        sa.Column("level", sa.String(), nullable=False),
        sa.Column("message", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_event"),
        sa.ForeignKeyConstraint(["run_id"], ["run.id"], name="fk_event_run_id_run", ondelete="CASCADE"),
    )
    op.create_index("ix_event_run", "event", ["run_id"])
    op.bulk_insert(
        status,
        [
            {"name": "queued", "final": False, "ok": False},
            {"name": "running", "final": False, "ok": False},
            {"name": "completed", "final": True, "ok": True},
            {"name": "failed", "final": True, "ok": False},
            {"name": "cancelled", "final": True, "ok": False},
            {"name": "interrupted", "final": True, "ok": False},
            {"name": "skipped", "final": True, "ok": False},
        ],
    )


def downgrade() -> None:
    for name in ("event", "metric_point", "metric", "experiment_run", "run", "experiment", "run_status"):
        op.drop_table(name)
