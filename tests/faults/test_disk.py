"""A disk that is full or read-only: one clear message, a store that is whole, and nothing that must be cleared up."""

from __future__ import annotations

import errno
import os
import resource
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest

from safedl import errors
from safedl.cli.cache import verify
from safedl.cli.output import explain
from safedl.errors import IncompleteError, SafedlError, StoreError, UsageError
from safedl.profile.save import store
from safedl.store import migrate
from safedl.store.reindex import reindex
from safedl.workspace import Workspace
from tests.faults import harness


@contextmanager
def mounted(target: Path, *arguments: str) -> Iterator[None]:
    """Mount something; skips the test where that is not permitted."""
    target.mkdir(exist_ok=True)
    answer = subprocess.run(["mount", *arguments, str(target)], capture_output=True, text=True, check=False)
    if answer.returncode:
        pytest.skip(f"mounting is not permitted here: {answer.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(target)], check=True)


def small_files() -> None:
    """Let no file of this process grow beyond 40 kB: weights do not fit."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, 40_000))


def said(driver: harness.Driver) -> list[str]:
    """Return what a driver printed, without the lines of stages."""
    return [line for line in driver.said().splitlines() if line.strip() and not line.startswith("[")]


def test_a_full_disk(tmp_path: Path, undisturbed: Workspace) -> None:
    disk = tmp_path / "disk"
    with mounted(disk, "-t", "tmpfs", "-o", "size=800k", "tmpfs"):
        workspace = harness.make_workspace(disk / "w")
        driver = harness.Driver(workspace.root, "run", "small", output=tmp_path / "full.log")
        assert driver.wait() in (1, 5)  # the first to find no space is a file, or the store
        assert [line for line in said(driver) if "free some" in line], driver.said()
        assert len(said(driver)) == 1
        assert "Traceback" not in driver.said() and "internal" not in driver.said()
        assert harness.integrity(workspace.db) == []
        subprocess.run(["mount", "-o", "remount,size=64m", str(disk)], check=True)
        driver = harness.Driver(workspace.root, "resume", output=tmp_path / "resumed.log")
        assert driver.wait() == 0, driver.said()
        assert harness.documents(workspace) == harness.documents(undisturbed)
        assert harness.repeated(workspace) == []


def test_a_file_that_cannot_be_written(workspace: Workspace) -> None:
    driver = harness.Driver(workspace.root, "run", "small", before=small_files)
    assert driver.wait() != 0
    assert "Traceback" not in driver.said() and "internal" not in driver.said()
    assert len(said(driver)) == 1 and "look whether the disk is full" in driver.said(), driver.said()
    assert harness.integrity(workspace.db) == []


@pytest.fixture
def narrow() -> Iterator[Callable[[], None]]:
    """Return what lets no file of this process grow beyond 40 kB, until the test ends."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, before[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_backup_that_does_not_fit_leaves_nothing_that_looks_like_one(
    undisturbed: Workspace, tmp_path: Path, narrow: Callable[[], None]
) -> None:
    narrow()
    with pytest.raises(StoreError, match="disk"):
        migrate.backup(undisturbed.db, tmp_path / "copy.db")
    assert list(tmp_path.iterdir()) == []


def test_a_rebuilt_store_that_does_not_fit_leaves_the_old_one_alone(
    undisturbed: Workspace, tmp_path: Path, narrow: Callable[[], None]
) -> None:
    db = migrate.backup(undisturbed.db, tmp_path / "safedl.db")
    before = db.read_bytes()
    narrow()
    with pytest.raises(StoreError, match="disk"):
        reindex(db, undisturbed.results)
    assert {path.name for path in tmp_path.iterdir()} == {"safedl.db", "safedl.db.lock"}
    assert db.read_bytes() == before


def test_a_folder_that_is_read_only(tmp_path: Path, undisturbed: Workspace) -> None:
    folder, log = tmp_path / "w", tmp_path / "ro.log"
    with mounted(folder, "--bind", str(undisturbed.root)):
        if subprocess.run(["mount", "-o", "remount,ro,bind", str(folder)], check=False).returncode:
            pytest.skip("remounting read-only is not permitted here")
        for command in (("run", "small"), ("resume",), ("db", "reindex"), ("run", "small", "--detach")):
            driver = harness.Driver(folder, *command, output=log)
            assert driver.wait() != 0
            assert [line for line in said(driver) if "the folder is read-only; choose" in line], driver.said()
            assert len(said(driver)) == 1
            log.unlink()
        for command in (
            ("runs", "ls"),
            ("compare",),
            ("doctor",),
            ("db", "check"),
            ("cache", "verify"),
            ("sql", "SELECT 1"),
        ):
            driver = harness.Driver(folder, *command, output=log)
            assert driver.wait() == 0, driver.said()


@pytest.mark.parametrize(
    ("number", "kind", "text"),
    [
        (errno.ENOSPC, SafedlError, "no space left on the disk; free some"),
        (errno.EROFS, UsageError, "Read-only file system"),  # another place would do: it was a bad one
    ],
)
def test_a_full_disk_is_no_fault_of_the_place_that_was_named(
    number: int, kind: type[SafedlError], text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("safedl.reports.files.write_bytes", refuse)
    with pytest.raises(SafedlError) as caught:
        store(tmp_path / "shop.yaml", "name: shop")
    assert type(caught.value) is kind
    assert str(caught.value) == f"{tmp_path / 'shop.yaml'} cannot be written: {text}"


def test_a_damaged_artifact_that_cannot_be_removed_is_not_said_to_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "results" / "cache" / "model" / "ab" / "ab12"
    folder.mkdir(parents=True)
    monkeypatch.setattr("shutil.rmtree", lambda *_args, **_more: None)
    monkeypatch.setattr(Path, "replace", lambda *_: os.close(-1))  # as where rights are missing
    context = SimpleNamespace(obj=Workspace.open(tmp_path))
    with pytest.raises(IncompleteError):
        verify(context)  # type: ignore[arg-type]
    assert f"damaged, could not be removed: {folder}" in capsys.readouterr().err


READ_ONLY = "the folder is read-only; choose one that can be written to with --workspace"
DENIED = "permission denied; look at its rights, or choose another --workspace"


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (OSError(errno.ENOSPC, "x"), "no space left on the disk; free some"),
        (OSError(errno.EROFS, "x", "/a/b"), f"{READ_ONLY}: /a/b"),
        (OSError(errno.EMFILE, "x"), "too many open files; allow more (ulimit -n)"),
        (PermissionError(errno.EACCES, "x", "/a/b"), f"{DENIED}: /a/b"),
    ],
)
def test_what_is_wrong_around_the_program_is_said_with_a_remedy(
    error: OSError, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert errors.surroundings(error) == text
    assert explain(error) == 1
    assert capsys.readouterr().err == f"error: {text}\n"
