"""A store of 100,000 runs: how quickly it takes them, and how quickly it answers what a comparison asks."""

from __future__ import annotations

import itertools
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.timing import Row, Timing, in_milliseconds, repeated, timed
from safedl.catalog.settings import TrainingSettings
from safedl.evaluation.comparison import COMPARED, compare
from safedl.events import Event, event
from safedl.store import connect, migrate, results
from safedl.store.named import named_queries
from safedl.store.recorder import Recorder
from safedl.store.records import ExperimentRecord, RunRecord
from safedl.store.results import Selection

DATASETS = ("digits", "mnist", "fashionmnist", "cifar10", "gtsrb", "own")
MODELS = ("cnn", "mlp", "resnet18", "resnet50", "vit")
ATTACKS = {
    "static_patch": ("activation_clustering", "spectral_signatures", "anomaly_detection", "fine_pruning", "pruning"),
    "learned_trigger": ("activation_clustering", "spectral_signatures", "anomaly_detection", "fine_pruning", "pruning"),
    "label_flipping": ("data_cleaning", "robust_loss", "dp_training", "per_class_monitoring"),
    "clean_label": ("influence_functions", "provenance_tracking", "robust_loss", "dp_training"),
}
GOAL = "≤ 100 ms"
BACKDOOR = ("static_patch", "learned_trigger")
RECIPES, SEEDS, METRICS, REPEATS = 27, 5, 20, 9
PARAMS = {
    **{f"training.{name}": value for name, value in TrainingSettings().model_dump().items()},
    **{f"attack.parameter_{i}": i / 10 for i in range(8)},
    **{f"defense.parameter_{i}": i / 10 for i in range(5)},
}
NAMES = (*COMPARED, *(f"clean_accuracy.{i}" for i in range(METRICS - len(COMPARED))))


def measure(folder: Path, count: int = 100_000) -> list[Row]:
    """Fill a store in `folder` with `count` runs of 20 metrics; return what was measured: name, value, goal."""
    db = folder / "store.db"
    migrate.ensure(db)
    pen = Recorder(db)
    took, written = Timing(0, 0), 0
    for experiment, runs in _experiments(count):
        batches = [batch for i, run in enumerate(runs) for batch in _events(run, written + i)]
        took += timed(partial(_insert, pen, experiment, runs, batches))[1]
        written += len(runs)
    pen.close()
    with closing(connect.open_readonly(db)) as connection:
        (runs_there,) = connection.execute("SELECT count(*) FROM run").fetchone()
        (metrics_there,) = connection.execute("SELECT count(*) FROM metric").fetchone()
    cell = Selection("fashionmnist", "cnn")
    found = results.results(db, cell)
    one_attack = Selection("fashionmnist", "cnn", "static_patch")
    what = f"{runs_there:,} runs, {metrics_there:,} metrics"
    questions: list[tuple[str, Callable[[], object], str]] = [
        (f"what one data set and model has to compare: {len(found):,} runs", lambda: results.results(db, cell), GOAL),
        ("ranking them", lambda: compare(found), ""),
        ("the same for one attack, ranking included", lambda: compare(results.results(db, one_attack)), ""),
        ("evidence for advice against it", lambda: results.evidence(db, "static_patch", ["fashionmnist"], "cnn"), GOAL),
    ]
    given = {"dataset": "fashionmnist", "model": "cnn", "attack": "static_patch", "parameter": "training.epochs"}
    with closing(connect.open_readonly(db)) as connection:
        for query in named_queries().values():
            bound = query.bind({k: v for k, v in given.items() if k in query.parameters})
            questions.append((f"query `{query.name}`", _asking(connection, query.sql, bound), GOAL))
        answers = [(title, in_milliseconds(repeated(ask, REPEATS)), goal) for title, ask, goal in questions]
    inserted = f"{written / took.wall:,.0f} runs/s by the clock, {written / took.cpu:,.0f} by processor time"
    return [(f"insert through the recorder, two batches a run, up to {what}", inserted, "≥ 500 runs/s"), *answers]


def _insert(
    pen: Recorder, experiment: ExperimentRecord, runs: Sequence[RunRecord], batches: Sequence[Sequence[Event]]
) -> None:
    pen.begin(experiment, runs)
    for batch in batches:
        pen.apply(batch)


def _asking(connection: sqlite3.Connection, sql: str, values: Mapping[str, Any]) -> Callable[[], object]:
    return lambda: connection.execute(sql, values).fetchall()


def _experiments(count: int) -> Iterator[tuple[ExperimentRecord, list[RunRecord]]]:
    """Yield experiments of one seed each - baseline, four attacks, their defenses - until there are `count` runs."""
    cells = itertools.product(range(RECIPES), range(SEEDS), DATASETS, MODELS)
    for number, (recipe, seed, dataset, model) in enumerate(cells):
        uid = f"e{number}"
        runs = _runs(uid, dataset, model, recipe, seed)[:count]
        if not runs:
            return
        count -= len(runs)
        yield ExperimentRecord(uid, f"{dataset}-{model}", None, "h", {}, _at(number)), runs


def _runs(uid: str, dataset: str, model: str, recipe: int, seed: int) -> list[RunRecord]:
    def run(name: str, kind: str, parent: str | None, **names: Any) -> RunRecord:
        chain = f"{dataset}/{model}/{name}/{recipe}"
        return RunRecord(
            uid=f"{uid}-{name}", kind=kind, dataset=dataset, model=model, seed=seed, recipe=chain,
            stage_key=f"{chain}@{seed}", params={**PARAMS, "training.epochs": recipe}, code="0",
            versions={}, created_at=_at(0), stage=f"{name}@{seed}", parent=parent, experiment=uid, **names,
        )  # fmt: skip

    runs = [run("baseline", "baseline", None)]
    for attack, defenses in ATTACKS.items():
        category = "backdoor" if attack in BACKDOOR else "data_poisoning"
        runs.append(run(attack, "attack", f"{uid}-baseline", category=category, attack=attack))
        for defense in (*defenses, "perfect_removal"):
            kind = "bound" if defense == "perfect_removal" else "defense"
            names = {"category": category, "attack": attack, "defense": defense}
            runs.append(run(f"{attack}-{defense}", kind, f"{uid}-{attack}", **names))
    return runs


def _events(run: RunRecord, number: int) -> tuple[list[Event], list[Event]]:
    """Return what a driver says when a run starts, and when it has ended."""
    metrics = {name: (number * 7919 + i * 104729) % 1000 / 1000 for i, name in enumerate(NAMES)}
    ended = [event("result", run.uid, metrics=metrics), event("run", run.uid, status="completed")]
    return [event("run", run.uid, status="running")], ended


def _at(number: int) -> str:
    return f"2026-01-01T{number // 3600 % 24:02d}:{number // 60 % 60:02d}:{number % 60:02d}.000000+00:00"
