"""What starting takes, and what memory a plan takes: each measured on a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.timing import Row, Timing, in_milliseconds, median

HELPS, RESUMES = 11, 3


def start() -> list[Row]:
    """Return what `safedl --help` takes, and what it takes to resume the finished plan of the digits' profile."""
    helped = _repeated(["--help"], HELPS)
    with tempfile.TemporaryDirectory() as folder:
        here = ["--workspace", folder]
        _command([*here, "run", "digits"])
        again = _repeated([*here, "resume"], RESUMES)
        stages = sum(1 for _ in Path(folder, "results", "runs").glob("*/result.json"))
    return [
        (f"`safedl --help`, median of {HELPS}", in_milliseconds(helped), "≤ 300 ms"),
        (
            f"`safedl resume` of a finished plan of {stages} stages, median of {RESUMES}",
            in_milliseconds(again),
            "≤ 3 s",
        ),
    ]


def memory(epochs: int | None) -> list[Row]:
    """Return the peak memory of the Fashion-MNIST profile, with fewer epochs if asked for; 45 minutes of two cores."""
    import yaml

    from safedl.workspace import shipped_profiles

    document = yaml.safe_load((shipped_profiles() / "fashion_mnist.yaml").read_text())
    if epochs:
        document["training"]["epochs"] = epochs
    with tempfile.TemporaryDirectory() as folder:
        profile = Path(folder, "fashion_mnist.yaml")
        profile.write_text(yaml.safe_dump(document))
        peak = _command(["--workspace", folder, "run", str(profile)])[1]
    what = f"`safedl run fashion_mnist`, all of its stages, {document['training']['epochs']} epochs: peak"
    return [(what, f"{peak / 2**20:.2f} GB", "≤ 2 GB")]


def _repeated(arguments: Sequence[str], times: int) -> Timing:
    return median([_command(arguments)[0] for _ in range(times)])


def _command(arguments: Sequence[str]) -> tuple[Timing, int]:
    """Run the command line in a process of its own; return what it took, and its peak memory in KB."""
    began = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "safedl", *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    _pid, status, usage = os.wait4(process.pid, 0)
    wall = time.perf_counter() - began
    if status:
        raise RuntimeError(f"safedl {' '.join(arguments)} ended with status {status}")
    return Timing(wall, usage.ru_utime + usage.ru_stime), usage.ru_maxrss
