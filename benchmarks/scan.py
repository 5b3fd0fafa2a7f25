"""What a scan finds in suspects whose poison is known to this script alone.

    python -m benchmarks.scan --workspace DIR --data PATH [--parts poison,clean,models,large,ceiling] [--tables-only]

Each suspect is written as a file and scanned by the product, with and without trusted images. Finished scans are
linked, so the script can be stopped and started again; it writes `docs/benchmarks/scan.md`.
"""

from __future__ import annotations

import argparse
import itertools
import os
import resource
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks.defenses import machine
from benchmarks.suspects import KINDS, TARGET, draw, plant, write
from safedl.catalog.settings import ModelSettings, TrainingSettings
from safedl.cli.live import PlainView
from safedl.data.imageset import Dataset, ImageSet
from safedl.models.build import build
from safedl.pipeline.driver import Request, drive, prepare
from safedl.profile.load import check
from safedl.profile.scanning import scan_document
from safedl.review import read_suspects
from safedl.training.predict import accuracy, sample_losses
from safedl.training.workbench import Workbench
from safedl.workspace import Workspace

DOCUMENT = Path(__file__).resolve().parent.parent / "docs" / "benchmarks" / "scan.md"
RATES = (0.01, 0.05, 0.1)


@dataclass(frozen=True)
class Source:
    """A data set to make suspects of."""

    images: int
    trusted: int
    model: dict[str, Any]
    training: dict[str, Any]


SOURCES = {
    "fashionmnist": Source(20_000, 1_000, {"name": "cnn"}, {}),
    "cifar10": Source(10_000, 1_000, {"name": "resnet18", "params": {"width": 16}}, {"epochs": 8}),
    "gtsrb": Source(1_500, 516, {"name": "cnn"}, {"epochs": 30}),
}
CLEAN = (
    *(("fashionmnist", n, seed, ()) for seed, n in enumerate((2_000, 5_000, 10_000, 20_000))),
    ("fashionmnist", 4_000, 4, (0, 2, 4, 6)), ("fashionmnist", 6_000, 5, (1, 3, 5, 7, 8, 9)),
    ("mnist", 10_000, 6, ()), ("mnist", 3_000, 7, (0, 1, 2, 3, 4)), ("digits", 1_400, 8, ()), ("digits", 1_000, 9, ()),
)  # fmt: skip


class Bench:
    """Scans files in one workspace and keeps nothing but what the product keeps."""

    def __init__(self, workspace: Path, workers: int | None, compute: bool) -> None:
        self.workspace, self.folder = Workspace.open(workspace), workspace / "suspects"
        self.workers, self.compute = workers, compute

    def scan(self, path: Path, trusted: Path | None, source: Source, weights: Path | None = None) -> Any:
        """Return the result of a scan, or None if it was not run and is not to be."""
        document = scan_document(
            str(path), trusted=str(trusted) if trusted else None, weights=str(weights) if weights else None
        )
        document |= {"model": source.model} | ({"training": source.training} if source.training else {})
        request = Request(profile=check(document), scan=True, workers=self.workers)
        prepared = prepare(self.workspace, request)
        if self.compute and not prepared.finished:
            drive(self.workspace, prepared, PlainView().handle)
            prepared = prepare(self.workspace, request)
        uid = next(iter(prepared.finished.values()), None)
        return self.workspace.result(uid) if uid else None

    def listed(self, result: Any) -> set[int]:
        """Return the positions that a scan lists."""
        return {s.index for s in read_suspects(self.workspace.run_folder(result["uid"]))}


def poison(bench: Bench, datasets: Sequence[str], only: str) -> Iterator[str]:
    """Yield the table's rows: planted poison of four kinds and three rates."""
    yield "| data | poison | rate | trusted | verdict | target class | recall | precision | listed | seconds |"
    yield "|---|---|---:|---|---|---|---:|---:|---:|---:|"
    for name, rate, kind, known in itertools.product(datasets, (0.05, 0.1, 0.01), KINDS, (True, False)):
        if only not in f"{name} {kind} {rate} {known}":
            continue
        source = SOURCES[name]
        clean, spare = draw(name, source.images, source.trusted, seed=0)
        data, mask = plant(clean, kind, rate, seed=0)
        path = write(bench.folder / f"{name}-{kind}-{rate}.npz", data)
        result = bench.scan(path, write(bench.folder / f"{name}-trusted.npz", spare) if known else None, source)
        if result is None:
            continue
        listed, truth = bench.listed(result), set(mask.nonzero().flatten().tolist())
        hits, wanted = len(listed & truth), [] if kind == "flips" else [TARGET]
        found = result["target_classes"]
        target = "right" if found == wanted else "none" if not found else f"wrong: {found}"
        yield (
            f"| {name} | {kind} | {rate:.0%} | {'yes' if known else 'no'} | {result['verdict']} | {target} | "
            f"{hits / len(truth):.3f} | {f'{hits / len(listed):.3f}' if listed else ''} | {len(listed)} | "
            f"{result['timing']['seconds']:.0f} |"
        )


def clean_sets(bench: Bench) -> Iterator[str]:
    """Yield the table's rows: sets without poison, of other sizes, classes and seeds."""
    yield "| data | images | classes | verdict with trusted images | without |"
    yield "|---|---:|---|---|---|"
    for name, count, seed, classes in CLEAN:
        source = SOURCES["fashionmnist"]
        data, spare = draw(name, count, 300 if name == "digits" else 1_000, seed, classes)
        path = write(bench.folder / f"clean-{name}-{seed}.npz", data)
        known = write(bench.folder / f"clean-{name}-{seed}-trusted.npz", spare)
        results = [bench.scan(path, trusted, source) for trusted in (known, None)]
        if all(results):
            chosen = ", ".join(map(str, classes)) or "all"
            yield f"| {name} | {len(data)} | {chosen} | {results[0]['verdict']} | {results[1]['verdict']} |"


def models(bench: Bench) -> Iterator[str]:
    """Yield the table's rows: five patched and five clean models, inspected."""
    yield "| model | verdict | class | smallest trigger | anomaly index |"
    yield "|---|---|---|---:|---:|"
    source = SOURCES["fashionmnist"]
    carrier, spare = draw("fashionmnist", 2_000, 1_000, seed=20)
    path = write(bench.folder / "carrier.npz", carrier)
    known = write(bench.folder / "carrier-trusted.npz", spare)
    for seed, patched in itertools.product(range(5), (True, False)):
        weights = bench.folder / f"model-{seed}-{'patched' if patched else 'clean'}.pt"
        if bench.compute and not weights.exists():
            _train(weights, patched, seed)
        if not weights.exists():
            continue
        result = bench.scan(path, known, source, weights)
        if result is None:
            continue
        found = result["model_scan"]
        name, values = max(found["classes"].items(), key=lambda item: float(item[1]["anomaly_index"]))
        yield (
            f"| {'patched' if patched else 'clean'}, seed {seed} | {found['verdict']} | {name} | "
            f"{values['trigger_size']:.3f} | {values['anomaly_index']:.1f} |"
        )


def ceiling(bench: Bench) -> Iterator[str]:
    """Yield the table's rows: how well flipped labels could be named by a model that has seen right ones only."""
    yield "| data | labels flipped | accuracy of the model | list in which precision and recall are equal |"
    yield "|---|---:|---:|---:|"
    if not bench.compute:
        return
    source = SOURCES["cifar10"]
    every, spare = draw("cifar10", 2 * source.images, source.trusted, seed=0)
    clean, other = every.select(torch.arange(source.images)), every.select(torch.arange(source.images, len(every)))
    data, flipped = plant(clean, "flips", 0.1, seed=0)
    dataset = Dataset("other", tuple("0123456789"), other, spare, data.select(torch.zeros(len(data)) > 0), "")
    recipe = TrainingSettings(epochs=15, batch_size=64, augment="shift_flip")
    settings = ModelSettings.model_validate(source.model)
    trainer = Workbench(lambda s: build(settings, dataset, s), "", recipe, torch.device("cpu"), 0)
    logits = trainer.predict(trainer.fit(other), data.images)
    listed = sample_losses(logits, data.labels).topk(int(flipped.sum())).indices  # as many as there are
    share = float(flipped[listed].float().mean())
    yield f"| cifar10 | 10% | {accuracy(logits, clean.labels):.3f} | {share:.3f} |"


def _train(weights: Path, patched: bool, seed: int) -> None:
    clean, spare = draw("fashionmnist", 20_000, 1_000, seed=30 + seed)
    data = plant(clean, "patch", 0.05, seed)[0] if patched else clean
    nothing = ImageSet(data.images[:0], data.labels[:0])
    dataset = Dataset("model", tuple("0123456789"), data, spare, nothing, "")
    recipe = TrainingSettings(epochs=5, batch_size=64)
    settings = ModelSettings(name="cnn")
    bench = Workbench(lambda s: build(settings, dataset, s), "", recipe, torch.device("cpu"), seed)
    torch.save(bench.fit(data).state_dict(), weights)


def large(bench: Bench) -> Iterator[str]:
    """Yield the table's rows: the whole of Fashion-MNIST by the command, with its time and peak of memory."""
    yield "| data | trusted | verdict | seconds | peak memory |"
    yield "|---|---|---|---:|---:|"
    if not bench.compute:
        return
    command = [sys.executable, "-m", "safedl", "--workspace", str(bench.folder / "large"), "scan", "--no-cache"]
    clean, spare = draw("fashionmnist", 59_000, 1_000, seed=0)
    known = write(bench.folder / "large-trusted.npz", spare)
    for kind in ("clean", "patch"):
        data = clean if kind == "clean" else plant(clean, kind, 0.05, seed=0)[0]
        path = write(bench.folder / f"large-{kind}.npz", data)
        start = time.perf_counter()
        words = [*command, "--data", str(path), "--trusted", str(known)]
        done = subprocess.run(words, capture_output=True, check=False)
        seconds = time.perf_counter() - start
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
        verdict = {0: "no evidence", 3: "something found"}.get(done.returncode, f"exit code {done.returncode}")
        yield f"| fashionmnist, 59,000, {kind} | yes | {verdict} | {seconds:.0f} | {peak:.2f} GB |"


def main() -> None:
    """Scan what is missing and write the document."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workspace", type=Path, required=True)
    parser.add_argument("--data", type=Path, help="folder with the data sets")
    parser.add_argument("--parts", default="poison,clean,models,large,ceiling")
    parser.add_argument("--datasets", default="fashionmnist,cifar10,gtsrb")
    parser.add_argument("--only", default="", help="only rows of poison that contain this: 'fashionmnist patch 0.05'")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--tables-only", action="store_true", help="run nothing; write tables of what is there")
    options = parser.parse_args()
    if options.data:
        os.environ["SAFEDL_DATA"] = str(options.data.absolute())
    bench = Bench(options.workspace.absolute(), options.workers, not options.tables_only)
    parts = {
        "poison": ("Planted poison", lambda: poison(bench, options.datasets.split(","), options.only)),
        "clean": ("Clean sets", lambda: clean_sets(bench)),
        "models": ("Models", lambda: models(bench)),
        "large": ("A large set", lambda: large(bench)),
        "ceiling": ("What could be named at best", lambda: ceiling(bench)),
    }
    sections: list[str] = []
    for part in options.parts.split(","):
        title, rows = parts[part]
        lines: list[str] = []
        for line in rows():
            lines.append(line)
            print(line, flush=True)
            _write([*sections, f"## {title}\n\n" + "\n".join(lines)])
        sections.append(f"## {title}\n\n" + "\n".join(lines))


def _write(sections: Sequence[str]) -> None:
    head = (
        "# What a scan finds\n\n"
        "Suspects are made by `benchmarks/suspects.py` and written as files that `safedl scan` takes as they came. "
        "patch: white 3×3 corner; blended: noise over it all at opacity 0.2 (Chen et al. 2017); sinusoid: over "
        "images of the target class with their right label (Barni et al. 2019); flips: random labels. Rates are of the "
        "whole set. Trusted: 1,000 other images (GTSRB 516). False-alarm rate 1 %. Fashion-MNIST 20,000 images, `cnn`; "
        "CIFAR-10 10,000, `resnet18` of width 16, 8 epochs; GTSRB 1,500, `cnn`, 30 epochs.\n\n"
        f"Made by `python -m benchmarks.scan` on {machine()}.\n\n"
    )
    DOCUMENT.write_text(head + "\n\n".join(sections) + "\n")


if __name__ == "__main__":
    main()
