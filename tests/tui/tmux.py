"""A real terminal for the app: tmux, 80 x 24."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest


class Tmux:
    """A terminal of 80 x 24 in which the app runs on a workspace; skips the test where there is no tmux."""

    def __init__(self, folder: Path, workspace: Path, name: str = "socket") -> None:
        if shutil.which("tmux") is None:
            pytest.skip("tmux is not installed")
        self.base = ["tmux", "-S", str(folder / name), "-f", "/dev/null"]
        environment = f"TERM=screen-256color XDG_STATE_HOME={folder} LC_ALL=C.UTF-8 TZ=UTC OMP_NUM_THREADS=1"
        command = f"env {environment} {sys.executable} -m safedl --workspace {workspace}; echo LEFT $?; sleep 60"
        self._run("new-session", "-d", "-s", "t", "-x", "80", "-y", "24", command)

    def _run(self, *arguments: str) -> str:
        return subprocess.run([*self.base, *arguments], capture_output=True, text=True, timeout=60, check=False).stdout

    def press(self, *keys: str) -> None:
        """Press keys, as tmux names them."""
        for key in keys:
            self._run("send-keys", "-t", "t", key)

    def type(self, text: str) -> None:
        """Type text."""
        self._run("send-keys", "-t", "t", "-l", text)

    def screen(self) -> str:
        """Return what the screen shows."""
        return self._run("capture-pane", "-p", "-t", "t")

    def wait_for(self, *texts: str, gone: bool = False, seconds: float = 180) -> None:
        """Wait until the screen shows all these texts, or none of them.

        Fails once nothing but numbers, as those of a clock, has changed on it for so many seconds.
        """
        before, end, screen = None, 0.0, self.screen()
        while any((text in screen) is gone for text in texts):
            if (shape := re.sub(r"\d", "", screen)) != before:
                before, end = shape, time.monotonic() + seconds
            assert time.monotonic() < end, f"{texts!r} never {'went' if gone else 'came'}:\n{screen}"
            time.sleep(0.1)
            screen = self.screen()

    def close(self) -> None:
        """End tmux; what runs in it gets SIGHUP."""
        self._run("kill-server")
