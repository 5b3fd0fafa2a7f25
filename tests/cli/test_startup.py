from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = {"torch", "torchvision", "sklearn", "opacus", "sqlmodel", "sqlalchemy", "alembic", "matplotlib", "textual"}


@pytest.mark.parametrize("arguments", [["--help"], ["run", "--help"], ["profile", "check", "digits"]])
def test_start_up_loads_nothing_heavy(arguments: list[str]) -> None:
    code = (
        "import sys; sys.argv = ['safedl', *sys.argv[1:]]\n"
        "from safedl.cli import main\n"
        "try:\n    main()\nfinally:\n    print('LOADED', *sorted(m for m in sys.modules if '.' not in m))"
    )
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.rpartition("LOADED")[2].split())
    assert not loaded & HEAVY
