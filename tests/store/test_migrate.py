from __future__ import annotations

import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from alembic.config import Config
from alembic.script import ScriptDirectory

from safedl.errors import NotFoundError, StoreError
from safedl.store import connect, migrate, views
from safedl.store.records import FINAL
from tests.store import samples
from tests.store.samples import Workplace

TABLES = ("experiment", "run", "experiment_run", "metric", "metric_point", "event", "run_status")

REPLACES_RUN = """
import sqlalchemy as sa
from alembic import op
revision, down_revision = "0003", "0002"
def upgrade():
    with op.batch_alter_table("run") as table:
        table.alter_column("code", existing_type=sa.String(), nullable=True)
def downgrade():
    with op.batch_alter_table("run") as table:
        table.alter_column("code", existing_type=sa.String(), nullable=False)
"""

FAILS = """
from alembic import op
revision, down_revision = "0003", "0002"
def upgrade():
    op.drop_table("metric_point")
    raise RuntimeError("half way")
"""


def counts(db: Path) -> dict[str, int]:
    with closing(sqlite3.connect(db)) as connection:
        return {t: connection.execute(f"SELECT count(*) FROM {t}").fetchone()[0] for t in TABLES}


def fill(work: Workplace) -> None:
    work.begin(samples.experiment(), samples.tree())
    for r in samples.tree():
        work.apply(samples.finished(r.uid, {"clean_accuracy": 0.9}))
    work.recorder.close()


@pytest.fixture
def next_revision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The project's migrations with room for one more; returns the file to write it to."""
    folder = tmp_path / "migrations"
    shutil.copytree(migrate.scripts(), folder, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(migrate, "scripts", lambda: folder)
    monkeypatch.setattr(connect, "HEAD", "0003")
    return folder / "versions" / "0003_next.py"


def test_head_is_the_newest_revision() -> None:
    config = Config()
    config.set_main_option("script_location", str(migrate.scripts()))
    assert ScriptDirectory.from_config(config).get_heads() == [connect.HEAD]


def test_a_new_store_is_sound_and_has_all_states(tmp_path: Path) -> None:
    db = tmp_path / "a folder" / "50% ?#.db"
    migrate.ensure(db)
    assert migrate.check(db) == []  # tables equal the models, views equal views.py
    with closing(sqlite3.connect(db)) as connection:
        final = {name for (name,) in connection.execute("SELECT name FROM run_status WHERE final")}
    assert final == set(FINAL)


@pytest.mark.parametrize(
    ("kind", "mode"), [("ext4", "WAL"), ("tmpfs", "WAL"), ("nfs4", "TRUNCATE"), ("fuse.sshfs", "TRUNCATE")]
)
def test_the_log_lies_beside_the_store_on_local_disks_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, mode: str
) -> None:
    monkeypatch.setattr(connect, "filesystem_type", lambda _path: kind)
    assert connect.journal_mode(tmp_path / "safedl.db") == mode
    migrate.ensure(tmp_path / "safedl.db")
    with closing(sqlite3.connect(tmp_path / "safedl.db")) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone()[0] == ("wal" if mode == "WAL" else "delete")


def test_of_two_mounts_at_one_place_the_later_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mounts = [("/", "overlay"), (tmp_path, "ext4"), (tmp_path, "nfs4"), ("/elsewhere", "xfs")]
    lines = "\n".join(f"1 0 0:1 / {place} rw - {kind} none rw" for place, kind in mounts)
    monkeypatch.setattr("safedl.store.connect.Path.read_text", lambda _self: lines)
    assert connect.filesystem_type(tmp_path / "safedl.db") == "nfs4"


def test_down_to_nothing_and_up_again(work: Workplace) -> None:
    fill(work)
    before = counts(work.db)
    assert before["run"] == 5
    assert before["metric"] == 5
    migrate.move_to(work.db, "base")
    with closing(sqlite3.connect(work.db)) as connection:
        left = connection.execute("SELECT name FROM sqlite_master WHERE type != 'index'").fetchall()
    assert left == [("alembic_version",)]
    migrate.move_to(work.db, connect.HEAD)
    assert migrate.check(work.db) == []
    assert counts(work.db)["run_status"] == before["run_status"]


def test_replacing_a_table_loses_no_row(work: Workplace, next_revision: Path) -> None:
    fill(work)
    before = counts(work.db)
    next_revision.write_text(REPLACES_RUN)
    with pytest.raises(StoreError, match="safedl db upgrade"):
        migrate.ensure(work.db)
    saved = migrate.upgrade(work.db)
    assert saved is not None
    assert connect.revision(saved) == "0002"
    assert counts(saved) == before
    assert connect.revision(work.db) == "0003"
    assert counts(work.db) == before
    with closing(sqlite3.connect(work.db)) as connection:
        made = dict(connection.execute("SELECT name, sql FROM sqlite_master"))
        assert connection.execute("SELECT count(*) FROM defense_results").fetchone() == (1,)
    assert "WITHOUT ROWID" in made["metric"]
    assert "WHERE status = 'completed'" in made["uq_run_completed"]
    migrate.move_to(work.db, "0002")
    assert counts(work.db) == before


def test_a_failing_migration_changes_nothing(work: Workplace, next_revision: Path) -> None:
    fill(work)
    before = counts(work.db)
    next_revision.write_text(FAILS)
    with pytest.raises(RuntimeError, match="half way"):
        migrate.upgrade(work.db)
    assert counts(work.db) == before
    with closing(sqlite3.connect(work.db)) as connection:
        assert connection.execute("SELECT count(*) FROM leaderboard").fetchone() == (1,)
        assert connection.execute("SELECT version_num FROM alembic_version").fetchone() == ("0002",)


def test_a_newer_store_is_refused(work: Workplace) -> None:
    with closing(sqlite3.connect(work.db)) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num='9999'")
    for action in (migrate.ensure, migrate.upgrade, connect.require):
        with pytest.raises(StoreError, match="newer") as caught:
            action(work.db)
        assert caught.value.exit_code == 5


@pytest.mark.parametrize("content", ["text", "database", "folder"])
def test_what_is_no_store_is_refused(tmp_path: Path, content: str) -> None:
    db = tmp_path / "x.db"
    if content == "folder":
        db.mkdir()
    elif content == "text":
        db.write_text("no database " * 100)
    else:
        with closing(sqlite3.connect(db)) as connection:
            connection.execute("CREATE TABLE mine (a)")
    before = None if db.is_dir() else db.read_bytes()
    with pytest.raises(StoreError, match=r"x\.db"):
        migrate.ensure(db)
    assert before is None or db.read_bytes() == before


def test_outdated_views_are_renewed(work: Workplace) -> None:
    with closing(sqlite3.connect(work.db)) as connection:
        connection.execute("DROP VIEW open_runs")
        connection.execute("DROP VIEW current_run")
        connection.execute("CREATE VIEW current_run AS SELECT 1")
        connection.execute("CREATE VIEW former AS SELECT * FROM run")
    problems = migrate.check(work.db)
    assert [p.split()[1] for p in problems] == ["current_run", "former", "open_runs"]
    migrate.ensure(work.db)
    assert migrate.check(work.db) == []


def test_check_sees_broken_references_and_altered_tables(work: Workplace) -> None:
    with closing(sqlite3.connect(work.db)) as connection, connection:
        connection.execute("INSERT INTO metric VALUES (77, 'asr', 1.0)")
        connection.execute("ALTER TABLE experiment ADD COLUMN colour TEXT")
    problems = "\n".join(migrate.check(work.db))
    assert "metric" in problems
    assert "colour" in problems


def test_backup_is_whole_while_somebody_writes(work: Workplace, tmp_path: Path) -> None:
    work.begin(samples.experiment(), samples.tree())  # stays in the log: the connection is open
    saved = migrate.backup(work.db, tmp_path / "saved" / "copy.db")
    assert counts(saved) == counts(work.db)
    assert sorted(p.name for p in saved.parent.iterdir()) == ["copy.db"]
    with pytest.raises(StoreError, match="exists already"):
        migrate.backup(work.db, saved)
    with pytest.raises(NotFoundError, match="no store yet"):
        migrate.backup(tmp_path / "none.db")


@pytest.mark.parametrize("target", ["file/copy.db", "/proc/copy.db"])
def test_a_backup_that_cannot_be_written_is_named(work: Workplace, tmp_path: Path, target: str) -> None:
    work.begin(samples.experiment(), [])
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match=str(tmp_path / target)):
        migrate.backup(work.db, tmp_path / target)
    assert not (tmp_path / target).exists()


def test_several_processes_make_one_store(tmp_path: Path) -> None:
    db = tmp_path / "safedl.db"
    code = (
        "import sys; from pathlib import Path; from safedl.store.recorder import Recorder; "
        "from tests.store import samples; r = Recorder(Path(sys.argv[1])); n = sys.argv[2]; "
        "r.begin(samples.experiment('e' + n), [samples.run('r' + n, experiment='e' + n)]); r.close()"
    )
    children = [subprocess.Popen([sys.executable, "-c", code, str(db), str(n)]) for n in range(3)]
    assert [child.wait(timeout=120) for child in children] == [0, 0, 0]
    assert migrate.check(db) == []
    assert counts(db)["run"] == 3
    assert counts(db)["experiment_run"] == 3


def test_views_are_those_of_the_code(work: Workplace) -> None:
    with closing(sqlite3.connect(work.db)) as connection:
        stored = dict(connection.execute("SELECT name, sql FROM sqlite_master WHERE type='view'"))
    assert stored == views.statements()


def test_a_lock_that_cannot_be_taken_is_a_store_that_cannot_be_used(tmp_path: Path) -> None:
    """Each driver asks for it, and it may be another user's."""
    (tmp_path / "x.db.lock").mkdir()
    with pytest.raises(StoreError, match=r"x\.db: no lock can be held: IsADirectoryError"):
        migrate.ensure(tmp_path / "x.db")
