"""How quickly the app answers in a real pseudo-terminal while two experiments run and the store holds 10,000 runs.

    python -m benchmarks.tui_latency [--write]

It makes a workspace of its own in a temporary folder, so it needs no data; byte code is kept there too, as from the
second start on at home. `--write` puts the table into `docs/benchmarks/tui.md`.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import platform
import pty
import re
import select
import statistics
import struct
import sys
import tempfile
import termios
import time
from pathlib import Path

from safedl.events import event
from safedl.store.recorder import Recorder
from safedl.store.records import ExperimentRecord, RunRecord
from safedl.workspace import Workspace

DOCUMENT = Path(__file__).resolve().parent.parent / "docs" / "benchmarks" / "tui.md"
HEAVY = ("torch", "torchvision", "sklearn", "opacus")
RUNS, KEYS, SIZE = 10_000, 60, (24, 80)
LATER = "2099-01-01T00:00:00.000000+00:00"
"""When the generated runs were made."""
PROFILE = """\
name: bench{number}
dataset: {{name: digits}}
model: {{name: cnn}}
training: {{epochs: 400, batch_size: 64, seed: {number}}}
attack_overrides: {{backdoor: {{static_patch: {{poison_fraction: 0.1, target_class: 1}}}}}}
defense_config: {{backdoor: {{static_patch: {{defenses: [spectral_signatures, activation_clustering]}}}}}}
"""
PROGRAM = """
import atexit, json, runpy, sys
from pathlib import Path
atexit.register(lambda: Path(sys.argv[-1], "modules.json").write_text(json.dumps(sorted(sys.modules))))
sys.argv[0] = "safedl"
runpy.run_module("safedl", run_name="__main__")
"""
ESCAPES = re.compile(r"\x1b(\[[0-9;?<>=]*[A-Za-z]|\][^\x07]*\x07|[()][A-B0]|.)")


class Terminal:
    """The app in a pseudo-terminal of 80 x 24; what it writes is read as text without escape codes."""

    def __init__(self, root: Path) -> None:
        self.bytes = 0
        self.text = ""
        self.started = time.perf_counter()
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            state = {"TERM": "xterm-256color", "XDG_STATE_HOME": str(root), "LC_ALL": "C.UTF-8"}
            state |= {"PYTHONPYCACHEPREFIX": str(root / "bytecode"), "PYTHONDONTWRITEBYTECODE": ""}
            os.execve(
                sys.executable, [sys.executable, "-c", PROGRAM, "--workspace", str(root)], {**os.environ, **state}
            )
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("HHHH", *SIZE, 0, 0))

    def read(self, seconds: float) -> bool:
        """Read what comes within some seconds; say whether anything came."""
        if not select.select([self.fd], [], [], seconds)[0]:
            return False
        try:
            chunk = os.read(self.fd, 65_536)
        except OSError:  # the app has left
            return False
        self.bytes += len(chunk)
        self.text += ESCAPES.sub("", chunk.decode(errors="replace"))
        return True

    def press(self, keys: str) -> float:
        """Forget what was read, press keys and return the time."""
        while self.read(0):
            pass
        self.text = ""
        now = time.perf_counter()
        os.write(self.fd, keys.encode())
        return now

    def wait_for(self, pattern: str, since: float, seconds: float = 25) -> float:
        """Read until a pattern has come; return the milliseconds since a moment."""
        end = time.perf_counter() + seconds
        while not re.search(pattern, self.text, re.DOTALL):
            if time.perf_counter() > end:
                raise TimeoutError(f"{pattern!r} did not come; there was: {self.text[-2000:]}")
            self.read(0.01)
        return (time.perf_counter() - since) * 1000

    def processor_time(self) -> float:
        """Return the milliseconds that the app has computed so far; NaN where the system does not say."""
        try:
            fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            return float("nan")
        return (int(fields[11]) + int(fields[12])) * 1000 / os.sysconf("SC_CLK_TCK")

    def listen(self, seconds: float) -> float:
        """Read for some seconds; return bytes per second."""
        start, before = time.perf_counter(), self.bytes
        while time.perf_counter() < start + seconds:
            self.read(0.05)
        return (self.bytes - before) / (time.perf_counter() - start)


def fill(db: Path) -> None:
    """Put finished runs into the store, through the pen of the driver."""
    experiment = ExperimentRecord("generated", "generated", None, "h", {}, LATER)
    runs = [
        RunRecord(
            uid=f"20990101-000000-g{i:05d}", kind="attack", dataset="digits", model="cnn", seed=i % 7,
            recipe=f"r{i}", stage_key=f"k{i}", params={"training.epochs": 15, "attack.target_class": i % 10},
            code="0", versions={},
            created_at=f"2099-01-01T{i // 3600:02d}:{i // 60 % 60:02d}:{i % 60:02d}.000000+00:00",
            stage=f"static_patch@{i}", experiment="generated", category="backdoor", attack="static_patch",
        )
        for i in range(RUNS)
    ]  # fmt: skip
    pen = Recorder(db)
    pen.begin(experiment, runs)
    events = [
        item
        for i, run in enumerate(runs)
        for item in (
            event("run", run.uid, status="running"),
            event("result", run.uid, metrics={"clean_accuracy": 0.9 + i / RUNS / 10, "asr": 1 - i / RUNS}),
            event("run", run.uid, status="completed"),
        )
    ]
    pen.apply(events)
    pen.close()


def start_two(workspace: Workspace) -> list[str]:
    """Start two experiments and wait until both train."""
    uids = []
    for number in (1, 2):
        path = workspace.root / f"bench{number}.yaml"
        path.write_text(PROFILE.format(number=number))
        uids.append(workspace.start(path, ("--workers", "1")))
    for uid in uids:
        while not any(item["event"] == "metric" for item in workspace.events(uid)):
            time.sleep(0.2)
    return uids


def measure(root: Path) -> list[tuple[str, str, str]]:
    """Return what was measured: name, value, goal."""
    workspace = Workspace.open(root, root / "safedl.db")
    uids = start_two(workspace)
    try:
        fill(workspace.db)  # planned last, so these stand on top of the list
        warm = Terminal(root)  # byte code and file caches are warm from here on
        warm.wait_for(r"cancel stage", warm.started)
        leave(warm)
        app = Terminal(root)
        first, computed = app.wait_for(r"\[4 Run\].*─ Log ─.*╯", app.started), app.processor_time()
        content = app.wait_for("▶ baseline", app.started)
        app.listen(3)
        steady = app.listen(5)
        app.press("f")
        app.listen(0.5)
        keys = []
        for number in range(KEYS):
            down = number % 2 == 0
            label = "static_patch" if down else "baseline"
            keys.append(app.wait_for(rf"›\W*{label}", app.press("j" if down else "k")))
            app.listen(0.13)
        runs_pane = app.wait_for("g09999", app.press("5"))
        app.listen(1)
        app.press("/")
        app.listen(1)
        pressed = app.press("asr<0.00045 acc>0.999")
        filtered = app.wait_for("4 of 10", pressed)
        if not all(workspace.is_running(uid) for uid in uids):
            raise RuntimeError("an experiment ended before all was measured")
        app.press("\x1b")
        app.listen(0.5)
        leave(app)
    finally:
        for uid in uids:
            workspace.cancel(uid)
        while any(workspace.is_running(uid) for uid in uids):
            time.sleep(0.2)
    found = [name for name in HEAVY if name in json.loads((root / "modules.json").read_text())]
    p = statistics.quantiles(keys, n=100)
    return [
        (f"key → repaint, median of {KEYS}", f"{statistics.median(keys):.0f} ms", ""),
        ("key → repaint, 95th percentile", f"{p[94]:.0f} ms", "≤ 60 ms"),
        ("key → repaint, longest", f"{max(keys):.0f} ms", ""),
        ("start of the process → first paint: tabs and the boxes of the first pane", f"{first:.0f} ms", "≤ 400 ms"),
        ("of it, computing", f"{computed:.0f} ms", ""),
        ("start of the process → what runs is shown", f"{content:.0f} ms", ""),
        (f"Runs pane, first visit, {RUNS:,} runs", f"{runs_pane:.0f} ms", "≤ 150 ms"),
        ("last key of a filter → its result", f"{filtered:.0f} ms", "≤ 100 ms"),
        ("output while two experiments run", f"{steady / 1000:.1f} KB/s", "≤ 20 KB/s"),
        (f"of {', '.join(HEAVY)} loaded", ", ".join(found) or "none", "none"),
    ]


def leave(app: Terminal) -> None:
    """Quit; what runs goes on."""
    app.wait_for("running", app.press("\x11"))
    app.press("d")
    while app.read(2):
        pass
    os.close(app.fd)
    os.waitpid(app.pid, 0)


def table(rows: list[tuple[str, str, str]]) -> str:
    """Return the rows as Markdown."""
    lines = ["| what | measured | goal |", "|---|---|---|"]
    return "\n".join(lines + [f"| {' | '.join(row)} |" for row in rows])


INTRODUCTION = """\
# How quickly the app answers

Written by `python -m benchmarks.tui_latency --write`: a real pseudo-terminal of 80 x 24, two experiments training on
the CPU beside it (each a process of its own), a store with {runs:,} further runs. Keys move the cursor in the plan of a
running experiment; the clock stops when the line with the cursor has been written.
"""


def main() -> None:
    """Measure, print, and write if asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help=f"write {DOCUMENT.name}")
    parser.add_argument("--note", default="", help="a sentence about the machine, for the document")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        load = os.getloadavg()[0]
        text = table(measure(Path(folder)))
    print(text)
    if arguments.write:
        machine = (
            f"{os.cpu_count()} cores ({platform.machine()}), Python {platform.python_version()}; load average before "
            f"the measurement {load:.1f}, the two experiments not counted. {arguments.note}"
        )
        DOCUMENT.parent.mkdir(exist_ok=True)
        DOCUMENT.write_text(f"{INTRODUCTION.format(runs=RUNS)}\n{text}\n\nMachine: {machine.rstrip()}\n")


if __name__ == "__main__":
    main()
