"""What the GPUs do, if nvidia-smi answers."""

from __future__ import annotations

import shutil
import subprocess

QUERY = "index,utilization.gpu,memory.used,memory.total,temperature.gpu"


def gpu_line() -> str:
    """Return one line such as `GPU0 87% 31/139 GB 64°C`, or an empty one. Takes a while: call it in a thread."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return ""
    try:
        done = subprocess.run([program, f"--query-gpu={QUERY}", "--format=csv,noheader,nounits"], timeout=5, check=True,
                              stdin=subprocess.DEVNULL, capture_output=True, text=True)  # fmt: skip
        return "  ".join(_describe(line) for line in done.stdout.strip().splitlines())
    except (OSError, ValueError, subprocess.SubprocessError):
        return ""


def _describe(line: str) -> str:
    index, busy, used, total, heat = (part.strip() for part in line.split(","))
    return f"GPU{index} {busy}% {float(used) / 1024:.0f}/{float(total) / 1024:.0f} GB {heat}°C"
