"""Whole plans: against the straightforward way, over their bare training loops, and with other numbers of workers."""

from __future__ import annotations

import copy
import math
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
import yaml

from benchmarks.naive import Task, defend
from benchmarks.timing import Row, Timing, in_seconds, median, timed
from safedl.attacks import load_poison
from safedl.catalog.settings import TrainingSettings
from safedl.data.imageset import ImageSet
from safedl.defenses import load as load_defense
from safedl.evaluation import metrics
from safedl.models.classifier import Classifier
from safedl.pipeline import poison, stages
from safedl.pipeline.driver import Prepared, Request, drive, prepare
from safedl.plan import Plan
from safedl.profile.load import check, read_text
from safedl.profile.schema import Profile
from safedl.store import queries
from safedl.training import fit as loop
from safedl.training.precision import resolve
from safedl.workspace import Workspace, shipped_profiles

FASHION: dict[str, Any] = {
    "dataset": {"name": "fashionmnist", "download": False},
    "model": {"name": "cnn"},
    "training": {"epochs": 6, "batch_size": 64, "learning_rate": 0.001},
}
APART = "dp_training"
REPEATS = 3
Outcome = Mapping[str, float]


def profile(dataset: str, per_class: int = 300) -> Profile:
    """Return the profile of the benchmark: the shipped one of the digits, or its attacks on a part of Fashion-MNIST."""
    document = yaml.safe_load(read_text(shipped_profiles() / "digits.yaml"))
    if dataset == "fashionmnist":
        document |= {**FASHION, "dataset": {**FASHION["dataset"], "subset": per_class}}
        document["attack_overrides"]["backdoor"]["static_patch"]["patch_size_ratio"] = 0.15
    return check({**document, "name": f"speed-{dataset}"})


@dataclass(frozen=True)
class Ran:
    """A plan that was run on an empty workspace: what it took, and the metrics of its runs by stage."""

    took: Timing
    outcomes: Mapping[str, Outcome]


def run_plan(
    chosen: Profile, keep: Callable[[str], bool], *, bounds: bool, workers: int = 1, cores: int | None = None
) -> Ran:
    """Run the stages of a profile whose defense `keep` lets through, on an empty workspace."""
    with tempfile.TemporaryDirectory() as folder:
        workspace = Workspace.open(Path(folder), Path(folder) / "safedl.db")

        def work() -> Prepared:
            with _cores(cores):  # workers share these; what runs may move, so that no neighbour holds it up
                prepared = prepare(workspace, Request(chosen, workers=workers))
            prepared = replace(prepared, plan=_part(prepared.plan, keep, bounds))
            code, _ = drive(workspace, prepared, lambda _event: None)
            if code:
                raise RuntimeError(f"the plan ended with {code}")
            return prepared

        _, took = timed(work)
        rows = queries.runs(workspace.db, limit=1000)
        return Ran(took, {row.record.stage: {k: v for k, v in row.metrics.items() if v is not None} for row in rows})


def _part(plan: Plan, keep: Callable[[str], bool], bounds: bool) -> Plan:
    kept = [
        s for s in plan.stages if s.kind in ("baseline", "attack") or (s.kind == "defense" and keep(s.defense or ""))
    ]
    if bounds:
        names = {s.id for s in kept}
        kept += [s for s in plan.stages if s.kind == "bound" and (s.after or s.parent) in names]
    return Plan(tuple(kept))


@contextmanager
def _cores(count: int | None) -> Iterator[None]:
    """Stay on so many cores; None is all."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, sorted(before)[:count])
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


# --- against the straightforward way


def tasks(chosen: Profile, keep: Callable[[str], bool]) -> list[Task]:
    """Return one script for each defense of each attack."""
    assert chosen.dataset is not None and chosen.model is not None
    return [
        Task(chosen.dataset, chosen.model, chosen.training, a.spec.name, a.params, d.spec.name, d.params)
        for a in chosen.attacks
        for d in a.defenses
        if keep(d.spec.name)
    ]


def against_naive(dataset: str, *, private: bool = False, cores: int = 1) -> tuple[list[Row], str]:
    """Return the rows, and a table of both sides' accuracy; `private`: of differentially private training alone.

    The plan runs between thirds of the scripts. With more cores each side uses them as it does by default, scripts by
    threads within an operation, the plan by a worker for each; the ratio is then one of the clock on the wall.
    """
    chosen = profile(dataset)

    def keep(defense: str) -> bool:
        return (defense == APART) == private

    scripts = tasks(chosen, keep)
    step = math.ceil(len(scripts) / REPEATS)
    ours: list[Ran] = []
    naive = Timing(0, 0)
    outcomes: list[Outcome] = []
    for start in range(0, len(scripts), step):
        torch.set_num_threads(cores)
        for task in scripts[start : start + step]:
            outcome, took = timed(partial(defend, task))
            naive += took
            outcomes.append(outcome)
            print(f"script {task.attack}/{task.defense}: {in_seconds(took)}", file=sys.stderr, flush=True)
        ours.append(run_plan(chosen, keep, bounds=False, workers=cores, cores=cores))
        print(f"plan: {in_seconds(ours[-1].took)}", file=sys.stderr, flush=True)
    plan = median([ran.took for ran in ours])
    what = f"{APART} alone" if private else f"without {APART}"
    what += f", on {cores} cores" if cores > 1 else ""
    faster = naive.wall / plan.wall if cores > 1 else naive.cpu / plan.cpu
    name = f"{dataset}, {len(scripts)} defenses of attacks, {what}"
    rows = [
        (f"{name}: one script each", in_seconds(naive), ""),
        (f"{name}: the plan, which trains the baseline too, median of {len(ours)}", in_seconds(plan), ""),
        (f"{name}: times faster", f"{faster:.1f}", "" if private else "≥ 5"),
    ]
    lines = [
        _line(task, outcome, ours[0].outcomes[f"{task.attack}/{task.defense}@{task.training.seed}"])
        for task, outcome in zip(scripts, outcomes, strict=True)
    ]
    head = "| attack | defense | clean accuracy, scripts | plan | ASR, scripts | plan |"
    return rows, "\n".join([head, "|---|---|---:|---:|---:|---:|", *(line for line, _ in lines), _means(lines)])


Values = tuple[float | None, ...]


def _line(task: Task, plain: Outcome, ours: Outcome) -> tuple[str, Values]:
    values = tuple(side.get(name) for name in ("clean_accuracy", "asr") for side in (plain, ours))
    return f"| {task.attack} | {task.defense} | {_cells(values)} |", values


def _means(lines: Sequence[tuple[str, Values]]) -> str:
    columns = zip(*(values for _, values in lines), strict=True)
    known = [[v for v in column if v is not None] for column in columns]
    return f"| *mean* | | {_cells([statistics.fmean(column) if column else None for column in known])} |"


def _cells(values: Sequence[float | None]) -> str:
    return " | ".join("" if v is None else f"{v:.3f}" for v in values)


# --- against the bare training loops


@dataclass(frozen=True)
class Fit:
    """One training as a plan did it: all that is needed to do it again."""

    model: Classifier
    data: ImageSet
    settings: TrainingSettings
    seed: int
    loss: loop.Loss
    after_step: Callable[[], None] | None


def overhead(dataset: str, per_class: int, repeats: int) -> list[Row]:
    """Return what a plan on so many images of each class takes over its bare training loops. They take turns."""
    torch.set_num_threads(1)
    chosen = profile(dataset, per_class)
    whole, bare, own = [], [], []
    for _ in range(repeats):
        with _watched() as (fits, methods):
            whole.append(run_plan(chosen, lambda name: name != APART, bounds=True, cores=1).took)
        own.append(sum(methods))
        bare.append(timed(partial(_train_all, fits))[1])
    plan, loops, computed = median(whole), median(bare), statistics.median(own)
    name = f"{dataset}, {per_class:,} images a class: plan with bounds, without {APART}"
    return [
        (f"{name}, {_times(repeats)}", in_seconds(plan), ""),
        (f"{name}: its {len(fits)} bare training loops", in_seconds(loops), ""),
        (f"{name}: what attacks, defenses and evaluation compute beside training", f"{computed:.1f} s", ""),
        (f"{name}: over the bare loops", f"{plan.cpu / loops.cpu:.2f}", "≤ 1.15"),
        (f"{name}, without what methods compute: over the bare loops", f"{(plan.cpu - computed) / loops.cpu:.2f}", ""),
    ]  # fmt: skip


@contextmanager
def _watched() -> Iterator[tuple[list[Fit], list[float]]]:
    """Note every training within, and the processor seconds that methods and evaluation take beside it."""
    fits: list[Fit] = []
    seconds: list[float] = []
    inside = [0.0]
    train, evaluate = loop.fit, metrics.evaluate

    def noted(model: Classifier, data: ImageSet, settings: TrainingSettings, **rest: Any) -> Classifier:
        fit = Fit(copy.deepcopy(model), data, settings, rest["seed"], rest["loss"], rest.get("after_step"))
        start = time.thread_time()
        trained = train(model, data, settings, **rest)
        inside[0] += time.thread_time() - start
        fits.append(fit)
        return trained

    def counted(work: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            before, start = inside[0], time.thread_time()
            answer = work(*arguments)
            seconds.append(time.thread_time() - start - (inside[0] - before))
            return answer

        return call

    with (
        patch.object(loop, "fit", noted),
        patch.object(metrics, "evaluate", counted(evaluate)),
        patch.object(poison, "load_poison", lambda spec: counted(load_poison(spec))),
        patch.object(stages, "load_defense", lambda spec: counted(load_defense(spec))),
    ):
        yield fits, seconds


def _train_all(fits: Sequence[Fit]) -> None:
    for fit in fits:
        _bare(fit)


def _bare(fit: Fit) -> None:
    """Train as `safedl.training.fit` does, and do nothing else."""
    model = copy.deepcopy(fit.model).to(memory_format=torch.channels_last).train()
    settings, data = fit.settings, fit.data
    optimizer = torch.optim.Adam(model.parameters(), settings.learning_rate)
    steps = settings.epochs * math.ceil(len(data) / settings.batch_size)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    low = resolve(settings.precision, torch.device("cpu")) == "bfloat16"
    rng = torch.Generator().manual_seed(fit.seed)
    for _epoch in range(settings.epochs):
        for index in torch.randperm(len(data), generator=rng).split(settings.batch_size):
            batch = data.images[index].float().div_(255).contiguous(memory_format=torch.channels_last)
            with torch.autocast("cpu", torch.bfloat16, enabled=low):
                logits = model(batch)
            optimizer.zero_grad()
            fit.loss(logits.float(), data.labels[index]).backward()
            optimizer.step()
            if fit.after_step:
                fit.after_step()
            scheduler.step()


# --- workers


def workers(dataset: str, repeats: int) -> list[Row]:
    """Return how long a plan takes with two workers of one thread, and with one worker of two. They take turns."""
    chosen = profile(dataset)
    took: dict[int, list[Timing]] = {2: [], 1: []}
    for _ in range(repeats):
        for count, timings in took.items():
            timings.append(run_plan(chosen, lambda name: name != APART, bounds=True, workers=count, cores=2).took)
            print(f"{count} workers: {in_seconds(timings[-1])}", file=sys.stderr, flush=True)
    two, one = median(took[2]), median(took[1])
    name = f"{dataset}: plan with bounds, without {APART}, on two cores"
    times = _times(repeats)
    return [
        (f"{name}: 2 workers x 1 thread, {times}", in_seconds(two), ""),
        (f"{name}: 1 worker x 2 threads, {times}", in_seconds(one), ""),
        (f"{name}: 1 x 2 over 2 x 1, by the clock", f"{one.wall / two.wall:.2f}", ""),
    ]


def _times(repeats: int) -> str:
    return f"median of {repeats}" if repeats > 1 else "once"
