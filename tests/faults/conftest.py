"""An undisturbed experiment to compare with, and the threads that all drivers compute with."""

from __future__ import annotations

from pathlib import Path

import pytest

from safedl.workspace import Workspace
from tests.faults import harness


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """Return a workspace in which the experiment has run to its end; tests leave it as it is."""
    workspace = harness.make_workspace(tmp_path_factory.mktemp("undisturbed") / "w")
    driver = harness.Driver(workspace.root, "run", "small")
    assert driver.wait() == 0, driver.said()
    return workspace


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """Return a workspace with the same profile, in which nothing has run."""
    return harness.make_workspace(tmp_path / "w")
