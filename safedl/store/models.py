"""The store's tables. Table models do not validate; records are checked before they get here."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import JSON, DateTime, Dialect, Index, MetaData, text
from sqlalchemy.types import TypeDecorator
from sqlmodel import Field, SQLModel

NAMES = {
    "ix": "ix_%(table_name)s_%(column_0_name)s",
    "uq": "uq_%(table_name)s_%(column_0_name)s",
    "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}


class UtcDateTime(TypeDecorator[datetime]):
    """A moment: aware values go in and come out, UTC is stored (SQLite has no time zones)."""

    impl = DateTime
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Return the value in UTC without its zone. Raises `ValueError` for a naive one."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"a time without a zone: {value}")
        return value.astimezone(UTC).replace(tzinfo=None)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Return the stored value with its zone."""
        return value.replace(tzinfo=UTC) if value else None


class Table(SQLModel):
    """Base of all tables: metadata of our own, with names for constraints, which migrations need."""

    metadata = MetaData(naming_convention=NAMES)


class RunStatus(Table, table=True):
    """The states of a run; a lookup table, so that a new one needs no change of schema."""

    __tablename__ = "run_status"

    name: str = Field(primary_key=True)
    final: bool
    ok: bool


class Experiment(Table, table=True):
    """One request to execute a plan; several may share a profile."""

    __tablename__ = "experiment"

    id: int | None = Field(default=None, primary_key=True)
    uid: str = Field(unique=True)
    name: str
    profile: str | None
    profile_hash: str
    config: dict[str, Any] = Field(sa_type=JSON)
    created_at: datetime = Field(sa_type=UtcDateTime)
    note: str | None


class Run(Table, table=True):
    """One execution of one stage. `parent_id`: defense or bound -> attack -> baseline."""

    __tablename__ = "run"
    __table_args__ = (
        Index("ix_run_cell", "dataset", "model", "attack", "defense", "kind"),
        Index("ix_run_parent", "parent_id"),
        Index("ix_run_status", "status"),
        Index("ix_run_stage", "stage_key"),
        Index("ix_run_retry", "retry_of"),
        Index("ix_run_recipe", "recipe", "seed", sqlite_where=text("status = 'completed'")),
        # No result is counted twice.
        Index("uq_run_completed", "stage_key", unique=True, sqlite_where=text("status = 'completed'")),
    )

    id: int | None = Field(default=None, primary_key=True)
    uid: str = Field(unique=True)
    kind: str
    stage: str
    parent_id: int | None = Field(foreign_key="run.id", ondelete="RESTRICT")
    experiment_id: int | None = Field(foreign_key="experiment.id", ondelete="SET NULL")
    dataset: str
    model: str
    threat: str | None
    attack: str | None
    defense: str | None
    detector: str | None
    seed: int
    status: str = Field(foreign_key="run_status.name")
    attempt: int
    retry_of: int | None = Field(foreign_key="run.id")
    params: dict[str, Any] = Field(sa_type=JSON)
    recipe: str
    stage_key: str
    code: str
    versions: dict[str, Any] = Field(sa_type=JSON)
    host: str | None
    pid: int | None
    device: str | None
    progress: float | None
    error: str | None
    created_at: datetime = Field(sa_type=UtcDateTime)
    started_at: datetime | None = Field(sa_type=UtcDateTime)
    finished_at: datetime | None = Field(sa_type=UtcDateTime)


class ExperimentRun(Table, table=True):
    """Which runs an experiment consists of: its own, and those of others that it uses."""

    __tablename__ = "experiment_run"
    __table_args__ = {"sqlite_with_rowid": False}

    experiment_id: int = Field(primary_key=True, foreign_key="experiment.id", ondelete="CASCADE")
    run_id: int = Field(primary_key=True, foreign_key="run.id", ondelete="CASCADE")


class Metric(Table, table=True):
    """A run's final values. NULL stands for a value that is not a finite number, as `null` does in the files."""

    __tablename__ = "metric"
    __table_args__ = {"sqlite_with_rowid": False}

    run_id: int = Field(primary_key=True, foreign_key="run.id", ondelete="CASCADE")
    name: str = Field(primary_key=True)
    value: float | None


class MetricPoint(Table, table=True):
    """A run's curves: loss per epoch, say."""

    __tablename__ = "metric_point"
    __table_args__ = {"sqlite_with_rowid": False}

    run_id: int = Field(primary_key=True, foreign_key="run.id", ondelete="CASCADE")
    name: str = Field(primary_key=True)
    step: int = Field(primary_key=True)
    value: float | None


class EventRow(Table, table=True):
    """A run's changes of state, with the reason."""

    __tablename__ = "event"
    __table_args__ = (Index("ix_event_run", "run_id"),)

    id: int | None = Field(default=None, primary_key=True)
    run_id: int = Field(foreign_key="run.id", ondelete="CASCADE")
    at: datetime = Field(sa_type=UtcDateTime)
    level: str
    message: str
