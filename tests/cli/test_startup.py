from __future__ import annotations

import os
import subprocess
import sys

import pytest
import typer

from safedl.cli.commands import app

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


def test_a_driver_loads_no_statistics_before_a_method_needs_them() -> None:
    """SciPy's take 0.7 seconds, a quarter of what it takes to resume a finished plan."""
    code = "import sys, safedl.pipeline.driver; print(*({'scipy.stats', 'sklearn', 'opacus'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not done.stdout.split()


@pytest.mark.parametrize("asked", ["", "3"])
def test_libraries_take_one_thread_if_nobody_asks_for_more(asked: str) -> None:
    code = (
        "import sys, safedl.cli; sys.argv = ['safedl', '--version']\n"
        "try:\n    safedl.cli.main()\nexcept SystemExit:\n    pass\n"
        "import scipy.linalg, sklearn.cluster, threadpoolctl\n"
        "print('USED', *{pool['num_threads'] for pool in threadpoolctl.threadpool_info()})"
    )
    environment = {k: v for k, v in os.environ.items() if k != "OMP_NUM_THREADS"}
    environment |= {"OMP_NUM_THREADS": asked} if asked else {}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    used = done.stdout.rpartition("USED")[2].split()
    assert "3" in used if asked else used == ["1"]  # of three OpenBLAS takes no more than there are cores


def test_help_says_what_an_option_takes_in_words() -> None:
    """`--attack <list[str]>` is for programmers."""
    found: list[str] = []
    commands = [("safedl", typer.main.get_command(app))]
    for name, command in commands:
        commands += [(f"{name} {more}", below) for more, below in getattr(command, "commands", {}).items()]
        options = [p for p in command.params if p.param_type_name == "option" and not getattr(p, "hidden", False)]
        found += [f"{name} {p.opts[0]}" for p in options if p.metavar is None and not p.is_flag]
        found += [f"{name} {p.opts[0]} has no help" for p in options if not getattr(p, "help", None)]
    assert not found
