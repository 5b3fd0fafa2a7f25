"""How fast Safe-DL is: ratios within one run, medians of several, threads stated.

    python -m benchmarks.speed --keep DIR [--data PATH] [--epochs N] [PART ...]
    python -m benchmarks.speed --keep DIR --write

Parts: plan, plan-cores, plan-fashion, private, overhead, overhead-large, influence, detectors, store, start, memory,
workers, workers-fashion; all if none is named. Each leaves its figures in DIR; `--write` makes
`docs/benchmarks/speed.md` of those that are there.
`detectors` needs `pip install -e '.[bench]'`; the parts on Fashion-MNIST need its files below PATH.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import tempfile
import warnings
from collections.abc import Callable
from datetime import date
from pathlib import Path

from benchmarks import speed_methods, speed_plan, speed_start, speed_store
from benchmarks.timing import Row

DOCUMENT = Path(__file__).resolve().parent.parent / "docs" / "benchmarks" / "speed.md"

TITLES = {
    "plan": "Whole plan against the straightforward way",
    "plan-cores": "Whole plan against the straightforward way, by the clock on two cores",
    "plan-fashion": "Whole plan against the straightforward way, Fashion-MNIST",
    "private": "Differentially private training, timed apart",
    "overhead": "Plan over its bare training loops",
    "overhead-large": "Plan over its bare training loops, on more images",
    "influence": "Influence by forward mode against gradients one by one",
    "detectors": "Detectors against the Adversarial Robustness Toolbox",
    "store": "Store",
    "start": "Start",
    "memory": "Memory",
    "workers": "Two workers of one thread, or one worker of two",
    "workers-fashion": "Two workers of one thread, or one worker of two, Fashion-MNIST",
}
NOTES = {
    "plan": """\
Both sides spend the same on attacks, defenses and measures themselves. Of trainings the scripts need 48 where the plan
needs 26: 18 attacked models, 9 clean ones and the 21 that defenses train for themselves, against 4, 1 and 21. That is a
factor of 1.8; the scripts' loader, memory format and optimiser, an operation at a time, make the rest. The plan
trains in bfloat16 where the processor is fast at it, as both an AMD EPYC (3.9 times faster, on one core and on two) and
an Intel Xeon with AMX are; on an Intel Xeon without it, in float32, it was 3.4 times faster.""",
    "plan-cores": """\
Workers are threads of one process: where two train, each waits an eighth of its time for Python's lock. Of both cores
all but 2 seconds are used between the first stage and the last.""",
    "overhead-large": """\
What methods compute grows more slowly than training: it includes 10,000 test images for each model, and triggers that
are reconstructed on trusted images, whatever the size of the training set.""",
    "influence": """\
Forward mode costs about as much as three forward passes, and so does one gradient: where arithmetic dominates, as with
convolutions, little can be gained at equal results. What batches save is the overhead of single calls.""",
    "detectors": """\
The toolbox computes a silhouette only if asked to, of all samples where Safe-DL draws 1,000 of a class; it starts
k-means once and stops there, Safe-DL starts it five times and refines by a mixture of Gaussians.""",
}
INTRODUCTION = """\
# How fast it is

Written by `python -m benchmarks.speed`. Ratios come from one run in which both sides take turns; they are ratios of
processor time with one thread unless something else is said, because other work ran on the machine meanwhile: the clock
on the wall then tells more about the neighbours. On an idle machine both agree.

*The straightforward way* is `benchmarks/naive.py`: each defense is one script that reads the data, poisons it, trains
the attacked model, defends, retrains and measures, with a data set in the style of torchvision's, a `DataLoader` of
batch 64 and float32. Attacks, defenses and measures are the same functions on both sides, the bounds are off, and the
time to start Python is not counted.
"""


def measure(part: str, epochs: int | None) -> tuple[list[Row], str]:
    """Return a part's rows, and what to print below them."""
    parts: dict[str, Callable[[], tuple[list[Row], str]]] = {
        "plan": lambda: speed_plan.against_naive("digits"),
        "plan-cores": lambda: speed_plan.against_naive("digits", cores=2),
        "plan-fashion": lambda: speed_plan.against_naive("fashionmnist"),
        "private": lambda: speed_plan.against_naive("digits", private=True),
        "overhead": lambda: (speed_plan.overhead("fashionmnist", 300, speed_plan.REPEATS), ""),
        "overhead-large": lambda: (speed_plan.overhead("fashionmnist", 2_000, 1), ""),
        "influence": _influence,
        "detectors": lambda: (speed_methods.detectors(), ""),
        "store": _store,
        "start": lambda: (speed_start.start(), ""),
        "memory": lambda: (speed_start.memory(epochs), ""),
        "workers": lambda: (speed_plan.workers("digits", speed_plan.REPEATS), ""),
        "workers-fashion": lambda: (speed_plan.workers("fashionmnist", 1), ""),
    }
    return parts[part]()


def _influence() -> tuple[list[Row], str]:
    cases = [(dataset, network) for network in ("mlp", "cnn") for dataset in ("digits", "fashionmnist")]
    return [row for case in cases for row in speed_methods.influence(*case)], ""


def _store() -> tuple[list[Row], str]:
    with tempfile.TemporaryDirectory() as folder:
        return speed_store.measure(Path(folder)), ""


def table(rows: list[Row]) -> str:
    """Return rows as Markdown."""
    return "\n".join(["| what | measured | goal |", "|---|---|---|", *(f"| {' | '.join(row)} |" for row in rows)])


def machine() -> str:
    """Return the processor's name, as Linux has it, with the number of cores."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"


def write(folder: Path) -> None:
    """Write the document from the figures that are there."""
    sections = [INTRODUCTION]
    for part, title in TITLES.items():
        path = folder / f"{part}.json"
        if path.exists():
            found = json.loads(path.read_text())
            below = "".join(f"\n\n{text}" for text in (NOTES.get(part), found["below"]) if text)
            sections.append(f"## {title}\n\n{found['machine']}\n\n{table(found['rows'])}{below}\n")
    DOCUMENT.parent.mkdir(parents=True, exist_ok=True)
    DOCUMENT.write_text("\n".join(sections))


def main() -> None:
    """Measure the parts asked for, or write the document."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help="all if none is named")
    parser.add_argument("--keep", type=Path, required=True, help="folder for the figures")
    parser.add_argument("--data", type=Path, help="folder with the data sets")
    parser.add_argument("--epochs", type=int, help="memory: so many epochs instead of the profile's")
    parser.add_argument("--write", action="store_true", help=f"measure nothing; write {DOCUMENT.name}")
    options = parser.parse_args()
    if unknown := [part for part in options.parts if part not in TITLES]:
        parser.error(f"unknown part {unknown[0]}; there are {', '.join(TITLES)}")
    if options.data:
        os.environ["SAFEDL_DATA"] = str(options.data.absolute())
    options.keep.mkdir(parents=True, exist_ok=True)
    warnings.simplefilter("ignore")  # what libraries say to developers
    for part in [] if options.write else options.parts or TITLES:
        before = os.getloadavg()[0]
        rows, below = measure(part, options.epochs)
        load = f"load average {before:.1f} before, {os.getloadavg()[0]:.1f} after"
        found = {"machine": f"{machine()}; {load}; {date.today()}.", "rows": rows, "below": below}
        (options.keep / f"{part}.json").write_text(json.dumps(found, indent=1))
        print(table(rows), below, found["machine"], sep="\n", flush=True)
    if options.write:
        write(options.keep)


if __name__ == "__main__":
    main()
