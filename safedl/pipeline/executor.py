"""Runs the stages of a plan in worker threads, as soon as what they start from is there."""

from __future__ import annotations

import queue
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from safedl.events import Event, event
from safedl.pipeline.lab import Lab
from safedl.pipeline.monitor import StageMonitor
from safedl.pipeline.reasons import expected, unexpected
from safedl.pipeline.stages import Document, Job, execute
from safedl.plan import Plan, Stage
from safedl.progress import Cancelled

GRACE = 1.2
"""Seconds that running stages get to stop after a cancel, before they are left to themselves."""

STANDSTILL = 1.0
"""So many seconds between two looks at the stages: the whole process stood still, by ctrl-z or a paused machine."""

STAGE_THREAD = "stage "
"""What the names of the threads begin with that stages run in."""


@dataclass(frozen=True)
class Control:
    """How the outside steers: asked a few times a second from the executor's own thread."""

    cancelled: Callable[[], bool]
    """Whether everything is to stop."""
    cancelled_run: Callable[[str], bool]
    """Whether the run with this uid is to stop."""


@dataclass(frozen=True)
class _Done:
    stage: Stage
    status: str
    error: str | None = None
    document: Document | None = None


@dataclass(frozen=True)
class _Running:
    stage: Stage
    monitor: StageMonitor
    device: torch.device


class Executor:
    """Executes one plan. Not reusable; all methods are called from one thread."""

    def __init__(
        self,
        lab: Lab,
        plan: Plan,
        uids: Mapping[str, str],
        done: Mapping[str, Document],
        *,
        folder: Callable[[str], Path],
        workers: int,
        stall: float,
    ) -> None:
        """Prepare to run the stages that are not in `done`.

        `uids` and `done` go by stage id: the runs to fill, and the results that are there already.
        `folder` gives a run's folder; a stage that shows no progress for `stall` seconds is given up.
        """
        self._lab, self._plan, self._uids, self._folder = lab, plan, uids, folder
        self._workers, self._stall = workers, stall
        self._results: dict[str, Document] = dict(done)
        self._status: dict[str, str] = dict.fromkeys(done, "completed")
        self._running: dict[str, _Running] = {}
        self._inbox: queue.SimpleQueue[Event | _Done] = queue.SimpleQueue()
        self._looked_at = time.monotonic()
        self.abandoned = False
        """Whether a thread was left behind: the process must leave by os._exit."""

    def run(self, sink: Callable[[list[Event]], None], control: Control) -> dict[str, str]:
        """Run to the end and return the final status by stage id; `sink` is given all events in order."""
        deadline: float | None = None
        while True:
            events = self._drain(timeout=0.05)
            if control.cancelled() and deadline is None:
                deadline = time.monotonic() + GRACE
                for running in self._running.values():
                    running.monitor.cancelled.set()
            for stage_id, running in self._running.items():
                if control.cancelled_run(self._uids[stage_id]):
                    running.monitor.cancelled.set()
            if deadline is None:
                events += self._give_up_hanging() + self._skip_orphans(control) + self._start_ready()
            elif time.monotonic() > deadline:
                events += self._abandon_all()
            if deadline is not None and not self._running:
                events += [self._settle(s, "cancelled", None) for s in self._waiting()]
            if events:
                sink(events)
            if len(self._status) == len(self._plan.stages) and not self._running:
                return self._status

    def _drain(self, timeout: float) -> list[Event]:
        events: list[Event] = []
        try:
            item = self._inbox.get(timeout=timeout)
            while True:
                events += self._finish(item) if isinstance(item, _Done) else [item]
                item = self._inbox.get_nowait()
        except queue.Empty:
            return events

    def _finish(self, done: _Done) -> list[Event]:
        if done.stage.id not in self._running:
            return []  # it had been given up
        del self._running[done.stage.id]
        uid = self._uids[done.stage.id]
        events = []
        if done.document is not None:
            self._results[done.stage.id] = done.document
            numbers = {**done.document["metrics"], **done.document["timing"]}
            events.append(event("result", uid, metrics=numbers))
        return [*events, self._settle(done.stage, done.status, done.error)]

    def _settle(self, stage: Stage, status: str, error: str | None) -> Event:
        self._status[stage.id] = status
        return event("run", self._uids[stage.id], status=status, **({"error": error} if error else {}))

    def _waiting(self) -> list[Stage]:
        return [s for s in self._plan.stages if s.id not in self._status and s.id not in self._running]

    def _start_ready(self) -> list[Event]:
        events = []
        while len(self._running) < self._workers and (ready := [s for s in self._waiting() if self._is_ready(s)]):
            events.append(self._start(min(ready, key=self._shared)))
        return events

    def _shared(self, stage: Stage) -> int:
        """Return how much a stage has in common with those that run: side by side, one would wait for the other.

        Defenses of one attack ask for the same model and what was found in it, and a defense trains the same model
        whatever images are to attack it later.
        """
        others = [r.stage for r in self._running.values() if r.stage.seed == stage.seed]
        return sum((o.attack == stage.attack) + (o.defense is not None and o.defense == stage.defense) for o in others)

    def _is_ready(self, stage: Stage) -> bool:
        return all(needed in self._results for needed in (stage.parent, stage.after) if needed)

    def _start(self, stage: Stage) -> Event:
        uid = self._uids[stage.id]
        used = [r.device for r in self._running.values()]
        device = min(self._lab.devices, key=used.count)
        monitor = StageMonitor(uid, self._inbox.put)
        job = Job(
            stage,
            uid,
            self._folder(uid),
            device,
            parent=self._results.get(stage.parent or ""),
            baseline=self._results.get(f"baseline@{stage.seed}"),
            after=self._results.get(stage.after or ""),
        )
        self._running[stage.id] = _Running(stage, monitor, device)
        threading.Thread(target=self._work, args=(job, monitor), name=f"{STAGE_THREAD}{stage.id}", daemon=True).start()
        return event("run", uid, status="running", device=str(device))

    def _work(self, job: Job, monitor: StageMonitor) -> None:
        """Run one stage in its thread; whatever happens becomes a message to the executor."""
        try:
            done = _Done(job.stage, "completed", document=execute(self._lab, job, monitor))
        except Cancelled:
            done = _Done(job.stage, "cancelled")
        except BaseException as error:  # noqa: BLE001 - a stage that raises anything must not take the plan with it
            reason = expected(error)
            if reason is None:
                monitor.emit(event("log", job.uid, level="error", message=traceback.format_exc()))
            done = _Done(job.stage, "failed", reason or unexpected(error))
        self._inbox.put(done)

    def _skip_orphans(self, control: Control) -> list[Event]:
        events = []
        for stage in self._waiting():
            for need in (stage.parent, stage.after):
                status = self._status.get(need or "", "completed")
                if status != "completed":
                    events.append(
                        self._settle(stage, "skipped", f"{need} {'failed' if status == 'failed' else f'was {status}'}")
                    )
                    break
            else:
                if control.cancelled_run(self._uids[stage.id]):
                    events.append(self._settle(stage, "cancelled", None))
        return events

    def _give_up_hanging(self) -> list[Event]:
        now = time.monotonic()
        gap, self._looked_at = now - self._looked_at, now
        if gap > STANDSTILL:  # no stage could give a sign of life meanwhile; its silence before that counts on
            for running in self._running.values():
                running.monitor.last_step = min(now, running.monitor.last_step + gap)
        hanging = [s for s in self._plan.stages if s.id in self._running]
        events = []
        for stage in hanging:
            silent = now - self._running[stage.id].monitor.last_step
            if silent > self._stall:
                events.append(
                    self._abandon(
                        stage, "failed", f"no progress for {silent:.0f} seconds: given up; --stall allows more"
                    )
                )
        return events

    def _abandon(self, stage: Stage, status: str, error: str | None) -> Event:
        self._running.pop(stage.id).monitor.cancelled.set()
        self.abandoned = True
        return self._settle(stage, status, error)

    def _abandon_all(self) -> list[Event]:
        return [self._abandon(s, "cancelled", None) for s in self._plan.stages if s.id in self._running]
