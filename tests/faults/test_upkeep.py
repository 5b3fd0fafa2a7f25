"""Commands beside `run` and `resume` that write: killed in the middle, nothing is taken for whole that is not."""

from __future__ import annotations

import json
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest
from safetensors import safe_open

from safedl.cache import ArtifactCache
from safedl.conclusions import pictures
from safedl.store import migrate, reindex
from safedl.workspace import Workspace
from tests.faults import harness
from tests.store import samples
from tests.store.samples import Workplace
from tests.store.tables import content

DEFENSE = "label_flipping/robust_loss@0"


@pytest.fixture
def copy(undisturbed: Workspace, tmp_path: Path) -> Workspace:
    """Return a copy of the workspace in which the experiment has run to its end."""
    root = tmp_path / "w"
    shutil.copytree(undisturbed.root, root)
    return Workspace.open(root, root / "safedl.db")


def run_of(workspace: Workspace, stage: str) -> str:
    [(uid,)] = harness.rows(workspace.db, f"SELECT uid FROM run WHERE stage = '{stage}'")
    return str(uid)


def killed(workspace: Workspace, *arguments: str, before: tuple[str, str, int]) -> None:
    """Run a command until it kills itself, see `harness.die_before`."""
    driver = harness.Driver(workspace.root, *arguments, before=partial(harness.die_before, *before))
    assert driver.wait() == -signal.SIGKILL, driver.said()
    assert harness.integrity(workspace.db) == []


def test_a_backup_that_is_killed_is_taken_for_none(copy: Workspace, tmp_path: Path) -> None:
    target = tmp_path / "copy.db"
    killed(copy, "db", "backup", str(target), before=("os.rename", ".part", 1))
    assert not target.exists()
    assert harness.run(copy.root, "db", "backup", str(target)) == 0
    assert content(target) == content(copy.db)


HALF_A_COMMIT = """
import os, sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
for words in ("journal_mode=TRUNCATE", "cache_size=2", "cache_spill=2"):
    connection.execute(f"PRAGMA {words}")
connection.execute("BEGIN IMMEDIATE")
connection.execute("UPDATE metric SET value = 7")
connection.execute("UPDATE event SET message = message || hex(randomblob(500))")
os.kill(os.getpid(), 9)
"""


@pytest.mark.parametrize("command", [("runs", "ls"), ("resume",), ("db", "backup"), ("db", "reindex")])
def test_a_store_without_a_log_is_used_again_after_a_kill_in_the_middle_of_a_commit(
    copy: Workspace, command: tuple[str, ...]
) -> None:
    before = content(copy.db)
    subprocess.run([sys.executable, "-c", HALF_A_COMMIT, copy.db], check=False)
    assert copy.db.with_name("safedl.db-journal").stat().st_size > 0
    assert harness.run(copy.root, *command) == 0
    assert harness.integrity(copy.db) == []
    assert content(copy.db) == before


def test_a_store_that_is_being_rebuilt_keeps_what_a_killed_driver_left_in_its_log(tmp_path: Path) -> None:
    work = Workplace(tmp_path / "driver")
    work.begin(samples.experiment(), samples.tree())
    shutil.copytree(tmp_path / "driver", tmp_path / "w")  # as a driver leaves it that is killed: with its log
    work.recorder.close()
    workspace = Workspace.open(tmp_path / "w", tmp_path / "w" / "safedl.db")
    assert workspace.db.with_name("safedl.db-wal").stat().st_size > 0
    killed(workspace, "db", "reindex", before=("os.rename", "safedl.db.new", 1))
    assert len(harness.rows(workspace.db, "SELECT uid FROM run")) == len(samples.tree())


def test_a_run_whose_deletion_is_killed_does_not_come_back_in_part(copy: Workspace) -> None:
    uid, before = run_of(copy, DEFENSE), content(copy.db)["run"]
    killed(copy, "runs", "rm", uid, "--yes", before=("os.remove", "", 3))  # of the store's, or of the run's files
    assert harness.run(copy.root, "db", "reindex") == 0
    left = [row[0] for row in content(copy.db)["run"]]
    assert left == [row[0] for row in before if row[0] != uid]
    assert not copy.run_folder(uid).exists()
    other = run_of(copy, "static_patch/perfect_removal@0")
    assert harness.run(copy.root, "runs", "rm", other, "--yes") == 0
    assert {path.name for path in (copy.results / "runs").iterdir()} == {*left} - {other}  # whole: nothing hidden


def test_a_run_that_is_deleted_while_the_store_is_made_anew_stays_deleted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = Workplace(tmp_path)
    work.begin(samples.experiment(), samples.tree())
    for record in samples.tree():
        work.apply(samples.finished(record.uid, {}))
    work.recorder.close()
    workspace, fill = Workspace.open(tmp_path, work.db), reindex._fill
    deleting = threading.Thread(target=workspace.delete_run, args=("random",))

    def slowly(*arguments: object) -> None:
        deleting.start()  # the files have been read by now
        deleting.join(0.3)
        fill(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(reindex, "_fill", slowly)
    reindex.reindex(work.db, work.results)
    deleting.join()
    assert {uid for (uid,) in harness.rows(work.db, "SELECT uid FROM run")} == {"base", "attack", "clean", "perfect"}
    assert not workspace.run_folder("random").exists()


def test_a_cache_that_is_killed_while_it_is_emptied_is_sound_and_is_emptied_by_the_next(copy: Workspace) -> None:
    words, cache = ("cache", "gc", "--max-size", "0", "--yes"), ArtifactCache(copy.cache)
    killed(copy, *words, before=("os.remove", "", 4))
    assert cache.damaged() == []
    assert list((copy.cache / "tmp").iterdir())
    assert harness.run(copy.root, *words) == 0
    assert list(cache.entries()) == [] and not list((copy.cache / "tmp").iterdir())


def test_weights_that_are_replaced_never_lie_beside_what_describes_others(copy: Workspace, tmp_path: Path) -> None:
    model, about = tmp_path / "m.safetensors", tmp_path / "m.json"
    first, second = run_of(copy, "baseline@0"), run_of(copy, DEFENSE)
    words = ("--model", str(model), "--force")
    assert harness.run(copy.root, "export", first, *words) == 0
    killed(copy, "export", second, *words, before=("os.rename", "", 2))
    with safe_open(model, "numpy") as weights:
        described = json.loads(weights.metadata()["safedl"])
    assert not about.exists() or json.loads(about.read_text())["run"] == described["run"]
    assert harness.run(copy.root, "export", second, *words) == 0
    assert json.loads(about.read_text())["run"] == second


def lose_the_interrupt() -> None:
    """Let a picture be interrupted in compiled code that has only its own errors."""

    def draw(*_: object) -> bytes:
        try:
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt:
            raise ValueError("Invalid bounding box") from None
        return b""

    signal.signal(signal.SIGINT, signal.default_int_handler)
    pictures.Drawing.draw = draw  # type: ignore[method-assign]


def test_ctrl_c_is_no_error_where_compiled_code_makes_one_of_it(copy: Workspace, tmp_path: Path) -> None:
    words = ("report", "small", "--output", str(tmp_path / "r.html"))
    driver = harness.Driver(copy.root, *words, before=lose_the_interrupt)
    assert (driver.wait(), driver.said()) == (130, "")
    assert not (tmp_path / "r.html").exists()


def test_an_upgrade_that_is_killed_leaves_the_older_store_and_its_backup(copy: Workspace, tmp_path: Path) -> None:
    copy.db.unlink()
    old = Path(__file__).parent.parent / "store" / "released" / "0001.sql"
    with closing(sqlite3.connect(copy.db)) as connection:
        connection.executescript(old.read_text())
    before = harness.rows(copy.db, "SELECT * FROM run")
    killed(copy, "db", "upgrade", before=("sqlite3.connect", "safedl.db", 1))  # to change it: it was only read before
    [saved] = copy.root.glob("*.bak")
    assert harness.rows(copy.db, "SELECT * FROM run") == before == harness.rows(saved, "SELECT * FROM run")
    assert harness.run(copy.root, "db", "upgrade") == 0
    assert migrate.check(copy.db) == []
