"""The app as a program: what it imports, and how it is driven in a real terminal."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from safedl.cli.fullscreen import asked_for
from safedl.workspace import Workspace
from tests.tui.conftest import UID, FakeDriver, recorded
from tests.tui.tmux import Tmux

HEAVY = ("torch", "torchvision", "sklearn", "opacus")
LATER = ("sqlalchemy", "sqlmodel", "alembic", "numpy", "PIL", "matplotlib", "typer")

PROGRAM = f"""
import asyncio, sys
from pathlib import Path
from safedl.cli.fullscreen import asked_for
from tui.app import SafedlApp

async def main():
    app = SafedlApp(asked_for(["--workspace", sys.argv[1]]), memory=Path(sys.argv[1]) / "m.json")
    async with app.run_test(size=(80, 24)) as pilot:
        early = [name for name in {HEAVY + LATER!r} if name in sys.modules]
        for key in "123456784":
            await pilot.press(key)
        await asyncio.sleep(1.5)
        print("early", early, "late", [name for name in {HEAVY!r} if name in sys.modules])

asyncio.run(main())
"""


def test_nothing_heavy_is_imported(workspace: Workspace) -> None:
    driver = FakeDriver(workspace, recorded())
    driver.say(20)
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(workspace.root)], capture_output=True, text=True, timeout=120, check=False
    )
    driver.leave()
    assert done.stdout.splitlines()[-1:] == ["early [] late []"], done.stdout + done.stderr


def test_the_app_opens_without_the_commands_unless_more_is_said(tmp_path: Path) -> None:
    opened = asked_for(["--db", str(tmp_path / "x.db"), "--workspace", str(tmp_path)])
    assert opened == Workspace(tmp_path, tmp_path / "x.db")
    assert asked_for([]) == Workspace.open()
    for more in (["tui"], ["--help"], ["--workspace"], ["--workspace", "--help"], ["--workspace", "w", "run"], ["--x"]):
        assert asked_for(more) is None


@pytest.mark.parametrize("arguments", [[], ["tui"]])
def test_without_a_terminal_there_is_one_plain_message(arguments: list[str], tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "safedl", "--workspace", str(tmp_path), *arguments],
        capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.splitlines() == ["error: the app needs a terminal; without one use the commands: safedl --help"]
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def terminal(workspace: Workspace, tmp_path: Path) -> Iterator[Tmux]:
    tmux = Tmux(tmp_path, workspace.root)
    yield tmux
    tmux.close()


@pytest.mark.skipif(os.name != "posix", reason="tmux")
def test_in_a_terminal_it_starts_shows_panes_and_leaves_by_keys_alone(workspace: Workspace, terminal: Tmux) -> None:
    terminal.wait_for("Nothing has run here yet")
    driver = FakeDriver(workspace, recorded())
    driver.say(20)
    terminal.wait_for("●")
    terminal.wait_for("▶ baseline")
    terminal.press("5")
    terminal.wait_for("[5 Runs]")
    terminal.press("?")
    terminal.wait_for("Help · Runs")
    terminal.press("Escape")  # a key that follows at once would be taken as alt with that key
    terminal.wait_for("Help · Runs", gone=True)
    terminal.press("4")
    terminal.wait_for("[4 Run]")
    terminal.press("C-q")
    terminal.wait_for("1 experiment running")
    terminal.press("d")
    terminal.wait_for("LEFT 0")
    assert f"still running: {UID}" in terminal.screen()
    assert not (workspace.experiment_folder(UID) / "cancel").exists()
    driver.leave()
