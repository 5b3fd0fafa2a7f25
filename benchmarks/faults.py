"""Disturb drivers at random moments and count what was lost; feed broken profiles and count what got through.

    python -m benchmarks.faults --workspace DIR [--subjects small,demo] [--kills 50] [--profiles 10000] [--write]

Every disturbed experiment has a workspace of its own below DIR and is compared with an undisturbed one. A failure is
printed and ends the program with exit code 1. `--write` puts the table into `docs/benchmarks/faults.md`.
"""

from __future__ import annotations

import argparse
import os
import platform
import random
import shutil
import signal
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from safedl.profile.load import read_text
from safedl.workspace import Workspace, shipped_profiles
from tests.faults import harness, mutate
from tests.store.tables import content

DOCUMENT = Path(__file__).resolve().parent.parent / "docs" / "benchmarks" / "faults.md"
INTRODUCTION = """\
# What faults cost

Written by `python -m benchmarks.faults --write`. An experiment is disturbed at random moments between the start of its
driver and its end (measured in events written, plus up to 0.4 s), then taken up again by `safedl resume`, which is
disturbed again, up to three times with the small profile and ten times with the demo. "Lost" are stages that had been
completed and were run again, and artifacts that were built again although they lay in the cache. "With other results"
are experiments whose results (`result.json` without its times, weights, indices, pictures) differ from those of the
undisturbed one.
"""
SIGNALS = {
    "kill -9": (signal.SIGKILL,),
    "SIGTERM": (signal.SIGTERM,),
    "SIGHUP": (signal.SIGHUP,),
    "ctrl-c twice": (signal.SIGINT, signal.SIGINT),
}


@dataclass(frozen=True)
class Subject:
    """An experiment to disturb: its profile, how often at most before it may end, and how often other than by -9."""

    title: str
    profile: str
    disturbances: int
    others: int


def subjects() -> dict[str, Subject]:
    """Return the experiment of the tests, and the demo under its name."""
    demo = yaml.safe_load(read_text(shipped_profiles() / "digits.yaml"))
    return {
        "small": Subject("The small profile of `tests/faults/harness.py`", harness.PROFILE, 3, 10),
        "demo": Subject("The demo", yaml.safe_dump({**demo, "name": "small"}), 10, 3),
    }


@dataclass
class Tally:
    """What came of one kind of disturbance."""

    sent: int = 0
    cut: int = 0
    """How often the experiment was unfinished then."""
    done: list[int] = field(default_factory=list)
    """Stages that had been completed when the driver ended."""
    seconds: list[float] = field(default_factory=list)
    """From the start of the next command until the store calls nothing queued or running."""
    damaged: int = 0
    open: int = 0
    lost: int = 0
    differing: int = 0
    reindexed: int = 0
    experiments: int = 0


class Reference:
    """An undisturbed experiment: its results, files, duration, and how many bytes of events it writes."""

    def __init__(self, root: Path, subject: Subject) -> None:
        workspace = harness.make_workspace(root, subject.profile)
        assert harness.run(root, "db", "path") == 0  # what forks drivers is loaded with the first one
        start = time.monotonic()
        assert harness.run(root, "run", "small") == 0
        self.seconds = time.monotonic() - start
        self.events = harness.told(workspace)
        self.documents = harness.documents(workspace)
        self.files = harness.file_hashes(workspace)
        self.subject = subject


def disturb(
    root: Path, signals: tuple[int, ...], times: int, reference: Reference, rng: random.Random, t: Tally
) -> None:
    """Disturb one experiment some times, finish it, and count what is wrong."""
    workspace = harness.make_workspace(root, reference.subject.profile)
    t.experiments += 1
    made: dict[tuple[str, str], float] = {}
    for disturbed in range(times):
        left = reference.events - min(harness.told(workspace), reference.events // 2)
        goal = harness.told(workspace) + int(rng.uniform(-0.1, min(0.95, 2 / (times - disturbed + 1))) * left)
        harness.run_and_disturb(workspace, _reached(workspace, goal), rng.uniform(0, 0.4), signals)
        t.sent += 1
        t.damaged += bool(harness.integrity(workspace.db))
        made |= harness.artifacts(workspace)
        if workspace.db.exists():
            stages = harness.rows(workspace.db, "SELECT count(*) FROM run WHERE status = 'completed'")[0][0]
            t.done.append(stages)
            t.cut += stages < len(reference.documents)
            start = time.monotonic()
            assert harness.run(root, "runs", "ls") == 0
            t.seconds.append(time.monotonic() - start)
            t.open += len(harness.open_rows(workspace.db))
            if stages == len(reference.documents):
                break
        else:
            t.cut += 1
    code = harness.run(root, *harness.go_on(workspace))
    t.lost += len(harness.repeated(workspace))
    now = harness.artifacts(workspace)
    t.lost += sum(now.get(key) != at for key, at in made.items())
    same = harness.documents(workspace) == reference.documents and harness.file_hashes(workspace) == reference.files
    t.differing += code != 0 or not same
    t.damaged += bool(harness.integrity(workspace.db))
    t.reindexed += _survives_reindex(workspace)


def _reached(workspace: Workspace, goal: int) -> Callable[[], bool]:
    return lambda: harness.told(workspace) >= goal


def _survives_reindex(workspace: Workspace) -> bool:
    """Return whether the files alone give the same store, apart from runs that were announced but never stored."""
    before = content(workspace.db)
    assert harness.run(workspace.root, "db", "reindex") == 0
    known = {row[0] for row in before["run"]} | {row[0] for row in before["experiment"] + before["run_status"]}
    after = {
        table: [row for row in rows if row[1 if table == "experiment_run" else 0] in known]
        for table, rows in content(workspace.db).items()
    }
    for table, rows in before.items():
        for row in {*map(repr, rows)} ^ {*map(repr, after[table])}:
            print(f"{workspace.root.name}: {table} differs after db reindex: {row}", file=sys.stderr, flush=True)
    return after == before


def kills(root: Path, count: int, seed: int, reference: Reference) -> dict[str, Tally]:
    """Kill `count` times by -9, and as often as the subject says in the other ways."""
    rng = random.Random(seed)
    found = {name: Tally() for name in SIGNALS}
    most = reference.subject.disturbances
    for name, signals in SIGNALS.items():
        tally, wanted = found[name], count if name == "kill -9" else reference.subject.others
        while tally.sent < wanted:
            folder = root / f"{name.replace(' ', '_')}-{tally.experiments}"
            times = most - tally.experiments % 3
            disturb(folder, signals, min(times, wanted - tally.sent), reference, rng, tally)
            shutil.rmtree(folder)
            print(f"{name}: {tally}", file=sys.stderr, flush=True)
    return found


def fuzz(count: int, seed: int) -> tuple[int, int, list[str], list[str]]:
    """Use `count` damaged profiles; return how many loaded, were refused, crashed, and what was written."""
    loaded, crashed = 0, []
    with mutate.watched() as written:
        for text in mutate.mutated(seed, count):
            try:
                loaded += mutate.use(text)
            except Exception as error:  # noqa: BLE001 - what it is looking for
                crashed.append(f"{type(error).__name__}: {error}: {text!r}")
    return loaded, count - loaded - len(crashed), crashed, written


def table(found: dict[str, Tally]) -> str:
    """Return the tallies as Markdown."""
    lines = [
        "| disturbed by | times | of these before the end | stages completed then (median) | store damaged | "
        "still running after the next start | the next command takes, s (median, longest) | lost | "
        "experiments resumed | with other results | same store from the files |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for name, t in found.items():
        seconds = f"{statistics.median(t.seconds):.1f}, {max(t.seconds):.1f}" if t.seconds else ""
        done = f"{statistics.median(t.done):g}" if t.done else ""
        cells = (
            name, t.sent, t.cut, done, t.damaged, t.open, seconds, t.lost, t.experiments, t.differing,
            f"{t.reindexed} of {t.experiments}",
        )  # fmt: skip
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines)


def main() -> None:
    """Measure, print, and write if asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workspace", type=Path, required=True, help="a folder for the workspaces; made if missing")
    parser.add_argument("--subjects", default="small,demo", help="which experiments")
    parser.add_argument("--kills", type=int, default=50, help="how often kill -9")
    parser.add_argument("--profiles", type=int, default=10_000, help="how many damaged profiles")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--write", action="store_true", help=f"write {DOCUMENT.name}")
    arguments = parser.parse_args()
    root = arguments.workspace.absolute()
    root.mkdir(parents=True, exist_ok=True)
    load = os.getloadavg()[0]
    parts: list[str] = []
    tallies: list[Tally] = []
    for name in arguments.subjects.split(","):
        subject = subjects()[name]
        reference = Reference(root / f"undisturbed-{name}-{os.getpid()}", subject)
        found = kills(root, arguments.kills, arguments.seed, reference)
        tallies += found.values()
        stages = f"{len(reference.documents)} stages; undisturbed it takes {reference.seconds:.1f} s."
        parts += [f"## {subject.title}", stages, table(found)]
    loaded, refused, crashed, written = fuzz(arguments.profiles, arguments.seed)
    parts += [
        "## Damaged profiles\n\n"
        f"{arguments.profiles:,} texts with one to three damages each: {refused:,} refused with a message, {loaded:,} "
        f"valid all the same, {len(crashed)} ended in an unexpected error, {len(written)} attempts to write anything.",
        f"Machine: {os.cpu_count()} cores ({platform.machine()}), Python {platform.python_version()}; load average "
        f"before the measurement {load:.1f}.",
    ]
    text = "\n\n".join(parts)
    print(text)
    print(*crashed[:20], *written[:20], sep="\n", file=sys.stderr)
    if arguments.write:
        DOCUMENT.parent.mkdir(exist_ok=True)
        DOCUMENT.write_text(f"{INTRODUCTION}\n{text}\n")
    bad = any(t.damaged or t.open or t.lost or t.differing for t in tallies) or crashed or written
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
