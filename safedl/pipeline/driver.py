"""One process that executes one experiment: it alone writes the experiment's rows, files and events."""

from __future__ import annotations

import json
import os
import platform
import signal
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from shlex import quote
from types import FrameType
from typing import Any

import torch
import yaml
from filelock import FileLock, Timeout

from safedl import __version__, reports
from safedl.cache import ArtifactCache, digest
from safedl.conclusions.gather import conclude
from safedl.conclusions.write import write
from safedl.errors import NotFoundError, StoreError, UsageError, in_a_line
from safedl.events import Event, event, now
from safedl.liveness import LOCK, PATIENCE
from safedl.pipeline.check import check_against_data
from safedl.pipeline.executor import Control, Executor
from safedl.pipeline.journal import Journal, Listener
from safedl.pipeline.lab import Lab, choose_devices, share_cores
from safedl.plan import Plan, expand, expand_scan
from safedl.profile.files import changed
from safedl.profile.save import dump
from safedl.profile.schema import Profile
from safedl.progress import SILENT, Progress
from safedl.store import migrate, queries, recover, scoring
from safedl.store.recorder import Recorder
from safedl.store.records import ExperimentRecord, RunRecord
from safedl.training.precision import compute_exactly
from safedl.workspace import Workspace, new_uid

PUBLISHING = ".publishing.lock"
"""Held by the driver that writes what all experiments share: published results and reports."""
_DUMPER = getattr(yaml, "CSafeDumper", yaml.SafeDumper)  # ten times as fast, where it was built
STALL = 1800.0
"""Seconds without a sign of life after which a stage is given up."""


@dataclass(frozen=True)
class Request:
    """What to execute: a profile, restricted to some attacks, defenses and seeds, and how."""

    profile: Profile
    attacks: tuple[str, ...] = ()
    defenses: tuple[str, ...] = ()
    seeds: tuple[int, ...] | None = None
    scan: bool = False
    """Examine the profile's data and model as they came, instead of simulating attacks."""
    workers: int | None = None
    device: str = "auto"
    use_cache: bool = True
    stall: float = STALL
    folders: tuple[Path, ...] = ()
    """Where relative paths are looked for, before the profile's own folder and the workspace."""
    experiment: str | None = None
    """The experiment to go on with, or the uid to give to a new one."""

    def options(self) -> dict[str, Any]:
        """Return everything but the profile and the experiment, as plain values."""
        return {
            "attacks": list(self.attacks), "defenses": list(self.defenses),
            "seeds": None if self.seeds is None else list(self.seeds), "workers": self.workers,
            "device": self.device, "use_cache": self.use_cache, "stall": self.stall, "scan": self.scan,
        }  # fmt: skip


@dataclass(frozen=True)
class Prepared:
    """A checked request: its plan, the key of each stage, and the completed runs that are there already."""

    request: Request
    lab: Lab
    workers: int
    plan: Plan
    keys: Mapping[str, str]
    """By stage id."""
    finished: Mapping[str, str]
    """Run uids by stage id."""


def prepare(workspace: Workspace, request: Request, progress: Progress = SILENT) -> Prepared:
    """Check a request against its data and model, and plan it. Writes nothing, but may download data.

    Raises `UsageError` for anything that could not run.
    """
    profile = request.profile
    missing = [line for line in profile.missing if not (request.scan and line.startswith("attack_overrides"))]
    if missing:
        raise UsageError(f"profile '{profile.name}' cannot run yet: " + "; ".join(missing))
    uid = request.experiment or new_uid()
    lab, workers = open_lab(workspace, request, uid)
    if workers < (request.workers or 0):
        used = "1 core; 1 worker is" if workers == 1 else f"{workers} cores; {workers} workers are"
        progress.log(f"--workers {request.workers}: this machine has {used} used")
    torch.set_num_threads(lab.threads)
    if request.scan:
        lab = lab.paced(progress)
        plan = expand_scan(lab.profile, request.seeds)
    else:
        plan = expand(profile, request.seeds, request.attacks, request.defenses)
    check_against_data(lab, plan, progress)
    keys: dict[str, str] = {}
    for stage in plan.stages:
        keys[stage.id] = lab.key(stage, keys.get(stage.parent or ""), keys.get(stage.after or ""))
    return Prepared(replace(request, experiment=uid), lab, workers, plan, keys, _finished(workspace, keys))


def open_lab(workspace: Workspace, request: Request, uid: str) -> tuple[Lab, int]:
    """Return what the stages of experiment `uid` share, and the number of workers. Raises `UsageError` for a device."""
    profile = request.profile
    compute_exactly()
    devices = choose_devices(request.device)
    workers, threads = share_cores(request.workers, devices)
    cache = workspace.cache if request.use_cache else workspace.experiment_folder(uid) / "cache"
    own = (profile.path.resolve().parent,) if profile.path else ()
    folders = tuple(dict.fromkeys((*request.folders, *own, workspace.root)))
    replicate = "" if request.use_cache else uid
    return Lab(profile, folders, ArtifactCache(cache), devices, threads, replicate, request.scan), workers


def _finished(workspace: Workspace, keys: Mapping[str, str]) -> dict[str, str]:
    """Return the completed runs that are there already, by stage id."""
    found = queries.completed(workspace.db, list(keys.values())) if workspace.db.exists() else {}
    return {stage_id: found[key] for stage_id, key in keys.items() if key in found}


def drive(workspace: Workspace, prepared: Prepared, listener: Listener) -> tuple[int, bool]:
    """Execute a prepared request; `listener` is given every event.

    Returns the exit code (0, 3, 130, or 1 where all is done but what follows from it could not be written), and whether
    the process must leave by os._exit because a stage hangs.
    Raises `StoreError` if the store cannot be used or another driver works on the same experiment.
    """
    return _Driver(workspace, prepared, listener).run()


class _Driver:
    def __init__(self, workspace: Workspace, prepared: Prepared, listener: Listener) -> None:
        self.workspace, self.prepared, self.listener = workspace, prepared, listener
        assert prepared.request.experiment is not None
        self.uid = prepared.request.experiment
        self.folder = workspace.experiment_folder(self.uid)
        self.interrupts = 0
        self._files_checked_at = 0.0
        self._cancel_asked: set[str] = set()
        self._mine: set[str] = set()

    def run(self) -> tuple[int, bool]:
        self.folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.folder / LOCK)
        try:
            # Whoever replaces the store holds its lock from its last look for drivers on: none may begin in between.
            with migrate.lock(self.workspace.db):
                lock.acquire(timeout=PATIENCE)
        except Timeout as error:
            raise StoreError(
                f"experiment {self.uid} is running already; follow it: safedl runs logs -f {self.uid}"
            ) from error
        try:
            migrate.ensure(self.workspace.db)
            recover.recover(self.workspace.db, self.workspace.results, holding=self.uid)
            # A driver that died may have finished more than it could store, and others went on meanwhile.
            self.prepared = replace(self.prepared, finished=_finished(self.workspace, self.prepared.keys))
            self.recorder = Recorder(self.workspace.db)
            try:
                with self._signals():
                    return self._execute()
            finally:
                self.recorder.close()
        finally:
            lock.release()

    def _execute(self) -> tuple[int, bool]:
        prepared = self.prepared
        uids, records = self._records()
        done = {stage_id: self._document(uid) for stage_id, uid in prepared.finished.items()}
        self._write_down(uids, records)
        self._mine = {r.uid for r in records}
        folders = {uid: self.workspace.run_folder(uid) for uid in self._mine}
        journal = Journal(self.folder, folders, self.recorder, self.listener)
        try:
            journal.write(self._opening(uids))
            executor = Executor(
                prepared.lab, prepared.plan, uids, done,
                folder=self.workspace.run_folder, workers=prepared.workers, stall=prepared.request.stall,
            )  # fmt: skip
            statuses = executor.run(journal.write, Control(self._cancelled, self._asked))
            faults = self._share(uids, statuses)
            journal.write(faults)
            complete = all(s == "completed" for s in statuses.values())
            stopped = not complete and self._cancelled()
            status = "completed" if complete else "cancelled" if stopped else "incomplete"
            journal.write([event("experiment", self.uid, status=status)])
        finally:
            journal.close()
        return (130 if stopped else 3 if not complete else 1 if faults else 0), executor.abandoned

    def _opening(self, uids: Mapping[str, str]) -> list[Event]:
        """Return the events that tell a follower what there is to follow."""
        finished = self.prepared.finished
        stages = [
            {"uid": uids[s.id], "id": s.id, "kind": s.kind, "parent": s.parent, "label": s.label}
            for s in self.prepared.plan.stages
        ]
        opening = event(
            "experiment", self.uid, status="started", name=self.prepared.request.profile.name, stages=stages
        )
        return [opening, *self._outdated(), *(event("run", uid, status="linked") for uid in finished.values())]

    def _outdated(self) -> list[Event]:
        """Return a word to who changed a profile and resumes what began before that: it goes on as it began."""
        profile, origin = self.prepared.request.profile, self._birth()["profile"]
        if origin is None or not changed(profile, Path(origin)):
            return []
        command = "scan" if self.prepared.request.scan else "run"
        change = f"safedl {command} {quote(origin)}"
        message = f"the profile was changed since, this goes on as it began; for the change: {change}"
        return [event("log", self.uid, level="warning", message=message)]

    # --- what is written before anything runs

    def _records(self) -> tuple[dict[str, str], list[RunRecord]]:
        """Return the run of every stage (by stage id), and the records of those that have to run."""
        prepared = self.prepared
        uids = dict(prepared.finished)
        taken = set(uids.values())
        for stage in prepared.plan.stages:
            if stage.id not in uids:  # thousands within a second would meet otherwise
                taken.add(uids.setdefault(stage.id, new_uid(taken)))
        lab, installed = prepared.lab, versions()
        attempts = queries.latest_attempts(self.workspace.db, prepared.keys.values())
        records = []
        for stage in prepared.plan.stages:
            if stage.id in prepared.finished:
                continue
            key = prepared.keys[stage.id]
            earlier = attempts.get(key)
            records.append(
                RunRecord(
                    uid=uids[stage.id], kind=stage.kind, dataset=lab.data_settings.name, model=lab.model_settings.name,
                    seed=stage.seed, recipe=stage.recipe, stage_key=key, params=stage.chain, code=__version__,
                    versions=installed, created_at=now(), stage=stage.id,
                    parent=uids[stage.parent] if stage.parent else None, experiment=self.uid, category=stage.category,
                    attack=stage.attack, defense=stage.defense,
                    detector=stage.params.get("detector") if stage.kind == "bound" else None,
                    attempt=earlier.number + 1 if earlier else 1, retry_of=earlier.uid if earlier else None,
                    host=socket.gethostname(), pid=os.getpid(), device=str(lab.devices[0]),
                )
            )  # fmt: skip
        return uids, records

    def _write_down(self, uids: Mapping[str, str], records: Sequence[RunRecord]) -> None:
        request, profile = self.prepared.request, self.prepared.request.profile
        text = dump(profile.document)
        reports.write_text(self.folder / "profile.yaml", text)
        experiment = ExperimentRecord(
            uid=self.uid, name=profile.name, profile_hash=digest(text),
            config={"profile": dict(profile.document), "options": request.options()}, **self._birth(),
        )  # fmt: skip
        document = {
            **asdict(experiment),
            "folders": [str(f) for f in self.prepared.lab.folders],
            "stages": uids,
            "runs": list(uids.values()),
            "linked": list(self.prepared.finished.values()),
        }
        reports.write_text(self.folder / "plan.json", json.dumps(document, indent=1, default=str))
        for record in records:
            folder = self.workspace.run_folder(record.uid)
            folder.mkdir(parents=True)
            config = yaml.dump(record.as_dict(), Dumper=_DUMPER, sort_keys=False, allow_unicode=True)
            reports.write_text(folder / "config.yaml", config)
        self.recorder.begin(experiment, records, list(self.prepared.finished.values()))

    def _birth(self) -> dict[str, Any]:
        """Return when the experiment was first asked for, and from which file: a resumed one keeps both."""
        try:
            plan = self.workspace.read_plan(self.uid)
            return {"created_at": plan["created_at"], "profile": plan["profile"]}
        except (NotFoundError, KeyError):
            path = self.prepared.request.profile.path
            return {"created_at": now(), "profile": str(path) if path else None}

    def _document(self, uid: str) -> Mapping[str, Any]:
        path = self.workspace.run_folder(uid) / "result.json"
        try:
            document: Mapping[str, Any] = json.loads(path.read_text())
        except (OSError, ValueError) as error:
            raise StoreError(
                f"run {uid} is completed in the store, but {path} cannot be read; run: safedl db reindex"
            ) from error
        return document

    # --- cancelling

    def _cancelled(self) -> bool:
        return self.interrupts > 0 or self._asked("")

    def _asked(self, uid: str) -> bool:
        """Return whether a cancel file asks to stop a run ("" is the experiment); looks once a second."""
        if time.monotonic() - self._files_checked_at > 1:
            self._files_checked_at = time.monotonic()
            if (self.folder / "cancel").exists():
                self._cancel_asked.add("")
            self._cancel_asked |= {u for u in self._mine if (self.workspace.run_folder(u) / "cancel").exists()}
        return uid in self._cancel_asked

    @contextmanager
    def _signals(self) -> Iterator[None]:
        """Cancel on the first interrupt, leave at once on the second."""

        def interrupt(_signal: int, _frame: FrameType | None) -> None:
            self.interrupts += 1
            if self.interrupts > 1:
                os._exit(130)

        before = {s: signal.signal(s, interrupt) for s in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _share(self, uids: Mapping[str, str], statuses: Mapping[str, str]) -> list[Event]:
        """Write what all experiments share. Return what there is to say."""
        try:
            with FileLock(self.workspace.results / PUBLISHING):  # two that end together would mix their files
                return [*self._publish(uids, statuses), *self._conclude(uids)]
        except (OSError, NotImplementedError) as error:  # of the lock: it may be another user's
            return [self._fault(f"results were not published, nor a report written: {in_a_line(error)}")]

    def _publish(self, uids: Mapping[str, str], statuses: Mapping[str, str]) -> list[Event]:
        """Copy completed results to the paths that people look at. Return what there is to say."""
        try:
            self._publish_first_seed(uids, statuses)
        except Exception as error:  # noqa: BLE001 - what lies in its way must cost neither scores nor report
            return [self._fault(f"results were not published: {type(error).__name__}: {error}")]
        return []

    def _publish_first_seed(self, uids: Mapping[str, str], statuses: Mapping[str, str]) -> None:
        """Publish the completed results of the smallest seed, with their bounds."""
        completed = [s for s in self.prepared.plan.stages if statuses[s.id] == "completed"]
        first = min((s.seed for s in completed), default=None)
        bounds: dict[str, dict[str, Mapping[str, float]]] = {}
        for stage in completed:
            if stage.kind == "bound" and stage.seed == first:
                of = stage.after or stage.parent or ""
                bounds.setdefault(of, {})[stage.defense or ""] = self._document(uids[stage.id])["metrics"]
        for stage in completed:
            if stage.kind not in ("bound", "scan") and stage.seed == first:
                known = {**bounds.get(stage.parent or "", {}), **bounds.get(stage.id, {})} if stage.defense else None
                reports.publish(
                    self.workspace.run_folder(uids[stage.id]), self.workspace.results,
                    stage.kind, stage.category, stage.attack, stage.defense, bounds=known,
                )  # fmt: skip

    def _conclude(self, uids: Mapping[str, str]) -> list[Event]:
        """Score the runs and write what follows from them: risk, comparison, report. Return what there is to say."""
        db, results = self.workspace.db, self.workspace.results
        if self.prepared.request.scan:
            return []  # a scan ranks nothing: its own result is its conclusion
        try:
            scoring.rescore(db, set(uids.values()))
            found = conclude(db, results, self.prepared.request.profile)
            write(results, found)  # without a completed attack too: an older GO must not stay
        except Exception as error:  # noqa: BLE001 - the runs are safe; no fault here may make them look lost
            return [self._fault(f"risk, comparison and report were not written: {type(error).__name__}: {error}")]
        return []

    def _fault(self, message: str) -> Event:
        return event("log", self.uid, level="error", message=message)


def versions() -> dict[str, str]:
    """Return the versions that results depend on."""
    from importlib.metadata import version  # to import them all for their versions would take seconds

    packages = {"torchvision": "torchvision", "numpy": "numpy", "sklearn": "scikit-learn"}
    return {
        "safedl": __version__, "python": platform.python_version(), "torch": str(torch.__version__),
        **{name: version(package) for name, package in packages.items()},
        "cuda": torch.version.cuda or "", "platform": platform.platform(),
    }  # fmt: skip
