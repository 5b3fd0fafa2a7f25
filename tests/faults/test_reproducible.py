"""The files are the record: the store comes back from them, row for row, and the cache knows what it holds."""

from __future__ import annotations

import shutil
from pathlib import Path

from safedl.store import migrate
from safedl.workspace import Workspace
from tests.faults import harness
from tests.store.tables import content


def test_the_files_of_a_driver_give_the_same_store(undisturbed: Workspace, tmp_path: Path) -> None:
    copy = tmp_path / "w"
    shutil.copytree(undisturbed.root, copy)
    for path in copy.glob("safedl.db*"):
        path.unlink()
    assert harness.run(copy, "db", "reindex") == 0
    before, after = content(undisturbed.db), content(copy / "safedl.db")
    assert {table: len(rows) for table, rows in after.items()} == {table: len(rows) for table, rows in before.items()}
    assert after == before
    assert any(name.startswith("score.") for _, name, _ in after["metric"])
    assert migrate.check(copy / "safedl.db") == []


def test_a_cache_that_was_tampered_with_is_noticed_and_made_anew(undisturbed: Workspace, tmp_path: Path) -> None:
    copy = Workspace.open(tmp_path / "w", tmp_path / "w" / "safedl.db")
    shutil.copytree(undisturbed.root, copy.root)
    assert harness.run(copy.root, "cache", "verify") == 0
    models = sorted(copy.cache.glob("model/*/*/model.pt"))
    models[0].write_bytes(models[0].read_bytes()[:100])
    altered = bytearray(models[1].read_bytes())
    altered[len(altered) // 2] ^= 1
    models[1].write_bytes(altered)
    shutil.rmtree(copy.results / "runs")  # everything is to be computed again, from what the cache holds
    for path in copy.root.glob("safedl.db*"):
        path.unlink()
    assert harness.run(copy.root, "run", "small") == 0
    assert harness.documents(copy) == harness.documents(undisturbed)
    assert harness.file_hashes(copy) == harness.file_hashes(undisturbed)
    assert harness.run(copy.root, "cache", "verify") == 0
    models[0].write_bytes(b"")
    driver = harness.Driver(copy.root, "cache", "verify")
    assert driver.wait() == 3
    assert f"damaged, removed: {models[0].parent}" in driver.said()
    assert harness.run(copy.root, "cache", "verify") == 0
