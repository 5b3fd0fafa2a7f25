"""The front desk of CLI and app: where things lie, and how an experiment is started, followed and cancelled."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import subprocess
import sys
import time
from collections.abc import Container, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from safedl import events, liveness
from safedl.errors import NotFoundError, SafedlError, StoreError, UsageError, nearest, surroundings
from safedl.events import Event
from safedl.store.records import OPEN

MODEL_ENDINGS = (".safetensors", ".pt2", ".onnx")
LIST_ENDING = ".csv"
"""Of the files that `safedl export` writes."""
NICENESS = 10
"""Of drivers in the background: training fills every core, and whoever watches it must still get an answer."""
_STARTING: dict[Path, subprocess.Popen[bytes]] = {}
"""Drivers that this process has started and that have not begun yet, by their experiment's folder."""


@dataclass(frozen=True)
class Workspace:
    """A folder with `profiles/`, `results/` and the store."""

    root: Path
    db: Path

    @classmethod
    def open(cls, root: Path | str | None = None, db: Path | str | None = None) -> Workspace:
        """Return the workspace at `root` (default: the current folder); `db` or SAFEDL_DB may move the store.

        Raises `UsageError` for a root that is a file.
        """
        folder = Path(root or "").absolute()
        if folder.exists() and not folder.is_dir():
            raise UsageError(f"--workspace {folder}: is a file; name a folder")
        return cls(folder, Path(db or os.environ.get("SAFEDL_DB") or folder / "safedl.db").absolute())

    @property
    def results(self) -> Path:
        """Where runs, experiments, published results and the cache lie."""
        return self.root / "results"

    @property
    def cache(self) -> Path:
        """The artifact cache's folder."""
        return self.results / "cache"

    def run_folder(self, uid: str) -> Path:
        """Return the folder of a run."""
        return self.results / "runs" / uid

    def experiment_folder(self, uid: str) -> Path:
        """Return the folder of an experiment."""
        return self.results / "experiments" / uid

    def profiles(self) -> dict[str, Path]:
        """Return all profiles by name: the workspace's own hide shipped ones of the same name.

        What is hidden or no file is passed over, as what an editor leaves while it is open.
        """
        folders = (shipped_profiles(), self.root / "profiles")
        files = [p for folder in folders for p in sorted(folder.glob("*.y*ml"))]
        return {p.stem: p for p in files if not p.name.startswith(".") and p.is_file()}

    def find_profile(self, name: str) -> Path:
        """Return the file that `name` means: a path from the current folder, or the name of a known profile.

        Raises `NotFoundError` with the nearest name.
        """
        with suppress(OSError):  # a name may be too long for a file's
            if Path(name).is_file():
                return Path(name)
        known = self.profiles()
        if name in known:
            return known[name]
        raise NotFoundError(
            f"no profile '{name}': neither a file nor one of {', '.join(sorted(known))}.{nearest(name, known)}"
        )

    # --- experiments

    def start(self, profile: Path, arguments: Sequence[str] = ()) -> str:
        """Start a driver for a profile in a session of its own and return the experiment's uid.

        `arguments` are further options of `safedl run`. The driver outlives its caller; it is followed through its
        `events.jsonl`. Raises the error that the driver stopped with, if it stops before it begins.
        """
        uid = new_uid()
        self._spawn(uid, ["run", str(profile.absolute()), *arguments, "--experiment", uid])
        return uid

    def start_scan(
        self,
        data: str | None = None,
        trusted: str | None = None,
        model: str | None = None,
        weights: str | None = None,
        profile: Path | None = None,
        arguments: Sequence[str] = (),
    ) -> str:
        """Start a driver that scans data, or what a profile names, and return the experiment's uid.

        The words are those of `safedl scan`, `arguments` further options of it. Raises as `start` does.
        """
        uid = new_uid()
        named = {"--data": data, "--trusted": trusted, "--model": model, "--weights": weights}
        words = [f"{option}={value}" for option, value in named.items() if value]
        self._spawn(uid, ["scan", *([str(profile.absolute())] if profile else []), *words, *arguments,
                          "--experiment", uid])  # fmt: skip
        return uid

    def stop_starting(self) -> bool:
        """End the drivers that this process starts and that have not begun yet; return whether there was any.

        `start`, `start_scan` or `resume`, which waits for such a driver, then raises.
        """
        drivers = [driver for folder, driver in list(_STARTING.items()) if folder.is_relative_to(self.results)]
        for driver in drivers:
            driver.terminate()
        return bool(drivers)

    def resume(self, uid: str) -> None:
        """Start a driver that goes on with an experiment, in a session of its own."""
        self._spawn(uid, ["resume", uid])

    def export(self, uid: str, targets: Mapping[str, Path]) -> str:
        """Write a run's `data`, `model` or `indices` by `safedl export` in a process of its own; return what that says.

        Raises the error that it stopped with.
        """
        words = [f"--{option}={path}" for option, path in targets.items()]
        done = subprocess.run(
            self._command(["export", uid, *words]),
            stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode:
            raise _error(done.returncode, done.stderr)
        return f"{done.stderr}{done.stdout}".strip()

    def cancel(self, uid: str) -> None:
        """Ask the driver to stop an experiment, or one run. Raises `NotFoundError` for an unknown uid."""
        for folder in (self.experiment_folder(uid), self.run_folder(uid)):
            if folder.is_dir():
                (folder / "cancel").touch()
                return
        raise NotFoundError(f"no experiment or run '{uid}' in {self.results}")

    def take_back_cancel(self, uid: str) -> None:
        """Forget that an experiment was cancelled, unless its driver is alive and may still have to hear of it."""
        if not self.is_running(uid):
            (self.experiment_folder(uid) / "cancel").unlink(missing_ok=True)

    def delete_run(self, uid: str) -> None:
        """Delete a run that has ended: its row in the store and its folder. Published copies stay.

        Raises `UsageError` if it has not ended or others rest on it, `NotFoundError` if there is no such run, and
        `SafedlError` if not all of its folder could be deleted.
        """
        from safedl.store.remove import delete_run  # loads the database's library

        user = next((e for e in self.running() if uid in self.read_plan(e)["runs"]), None)
        if user is not None:
            raise UsageError(f"run {uid} is used by experiment {user}, which is running; wait for it or cancel it")
        delete_run(self.db, self.run_folder(uid))

    def running(self) -> list[str]:
        """Return the uids of the experiments whose driver is alive."""
        return [uid for uid in self.experiments() if self.is_running(uid)]

    def is_running(self, uid: str) -> bool:
        """Return whether an experiment's driver is alive."""
        return liveness.is_held(self.experiment_folder(uid) / liveness.LOCK)

    def experiments(self) -> list[str]:
        """Return the uids of all experiments, oldest first."""
        return sorted(p.parent.name for p in (self.results / "experiments").glob("*/plan.json"))

    def find_experiment(self, name: str | None) -> str:
        """Return the experiment that a uid or a part of one means; None is the last one. Raises `NotFoundError`."""
        known = self.experiments()
        if name is None:
            if not known:
                raise NotFoundError(f"no experiment in {self.results} yet; start one: safedl run digits")
            return known[-1]
        matches = [uid for uid in known if name in uid]
        if not matches:
            last = f"the last one is {known[-1]}" if known else "none has been started yet"
            raise NotFoundError(f"no experiment is named '{name}'; {last}")
        return _only(name, matches, "experiments")

    def find(self, name: str) -> str:
        """Return the experiment or run that a uid or a part of one means. Raises `NotFoundError`."""
        runs = [p.name for p in (self.results / "runs").glob("[!.]*") if name in p.name]
        matches = [uid for uid in self.experiments() if name in uid] + runs
        if name in matches:
            return name
        if not matches:
            raise NotFoundError(f"no experiment or run is named '{name}'; see: safedl runs ls")
        return _only(name, matches, "experiments or runs")

    def events(self, uid: str) -> list[Event]:
        """Return what has been said about an experiment or run so far."""
        return events.read(self._events_file(uid))

    def follow(self, uid: str, interval: float = 0.3) -> Iterator[Event]:
        """Yield what is said about an experiment or run, until the run has ended or the driver is gone.

        An experiment may say several times that it has ended: it can be resumed.
        """
        offset = 0
        experiment = self._experiment_of(uid)
        while True:
            alive = self.is_running(experiment)  # before reading: what is written until its end is read below
            found, offset = events.read_from(self._events_file(uid), offset)
            yield from found
            if not alive or any(_ends_run(item, uid) for item in found):
                return
            time.sleep(interval)

    def stage_names(self, uid: str) -> dict[str, str]:
        """Return what the runs of an experiment are called in its plan, by uid; `uid` may be one of its runs.

        Of a run that was tried again since, which is in no plan any longer, its own file tells the name.
        """
        experiment = self._experiment_of(uid)
        if not self.experiment_folder(experiment).is_dir():
            return self._own_name(uid)
        stages: dict[str, str] = self.read_plan(experiment)["stages"]
        return {run: name for name, run in stages.items()}

    def _own_name(self, uid: str) -> dict[str, str]:
        import yaml  # the app starts without it

        try:
            return {uid: str(yaml.safe_load((self.run_folder(uid) / "config.yaml").read_text())["stage"])}
        except (OSError, ValueError, TypeError, KeyError, yaml.YAMLError):
            return {}

    def _events_file(self, uid: str) -> Path:
        folder = self.experiment_folder(uid)
        return (folder if folder.is_dir() else self.run_folder(uid)) / "events.jsonl"

    def _experiment_of(self, uid: str) -> str:
        if self.experiment_folder(uid).is_dir():
            return uid
        for experiment in reversed(self.experiments()):
            with suppress(NotFoundError):  # what a damaged plan named nobody knows
                if uid in self.read_plan(experiment)["runs"]:
                    return experiment
        return uid

    def read_plan(self, uid: str) -> dict[str, Any]:
        """Return an experiment's `plan.json`. Raises `NotFoundError` if it cannot be read."""
        path = self.experiment_folder(uid) / "plan.json"
        try:
            plan: dict[str, Any] = json.loads(path.read_text())
            if "runs" not in plan:
                raise ValueError("it names no runs")
        except (OSError, ValueError, TypeError) as error:
            raise NotFoundError(f"{path} cannot be read: {error}") from error
        return plan

    def result(self, uid: str) -> dict[str, Any] | None:
        """Return a run's `result.json`, or None if it has none."""
        try:
            document: dict[str, Any] = json.loads((self.run_folder(uid) / "result.json").read_text())
        except (OSError, ValueError):
            return None
        return document

    def summary(self, uid: str) -> list[dict[str, Any]]:
        """Return one row per attack, defense and bound of an experiment: accuracy and harm before and after.

        What no run of the experiment has measured is no column.
        """
        rows = []
        for run in self.read_plan(uid)["runs"]:
            document = self.result(run)
            if document is None or document["kind"] == "baseline":
                continue
            metrics, before = document["metrics"], document["before"]
            rows.append(
                {
                    "attack": document["attack"],
                    "defense": _defense_name(document),
                    "seed": document["seed"],
                    "clean before": before.get("clean_accuracy"),
                    "clean after": metrics.get("clean_accuracy"),
                    "ASR before": before.get("asr"),
                    "ASR after": metrics.get("asr"),
                    "adversarial before": before.get("adversarial_accuracy"),
                    "adversarial after": metrics.get("adversarial_accuracy"),
                    "TPR": metrics.get("tpr"),
                    "FPR": metrics.get("fpr"),
                    "seconds": document["timing"].get("seconds"),
                }
            )
        empty = {name for name in (rows[0] if rows else ()) if all(row[name] is None for row in rows)}
        return [{name: value for name, value in row.items() if name not in empty - {"defense"}} for row in rows]

    def _command(self, words: Sequence[str]) -> list[str]:
        # -P: what lies in the current folder is data, and must not be taken for a module of Python's.
        return [sys.executable, "-P", "-m", "safedl", "--workspace", str(self.root), "--db", str(self.db), *words]

    def _spawn(self, uid: str, command: Sequence[str]) -> None:
        folder = self.experiment_folder(uid)
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise SafedlError(surroundings(error) or f"{folder}: cannot be made: {error.strerror}") from error
        told = self._events_file(uid)
        size = told.stat().st_size if told.exists() else 0
        with (folder / "driver.log").open("ab") as log:
            driver = subprocess.Popen(
                self._command(command),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=log,
                start_new_session=True,
            )
        _step_back(driver.pid)
        _STARTING[folder] = driver
        try:
            while not (told.exists() and told.stat().st_size > size):
                if (code := driver.poll()) not in (None, 0):
                    raise self._failure(folder, code or 1)
                time.sleep(0.05)
        finally:
            _STARTING.pop(folder, None)

    def _failure(self, folder: Path, code: int) -> SafedlError:
        """Return the error of a driver that stopped before it began, and leave nothing of it behind."""
        said = (folder / "driver.log").read_text(errors="replace")
        if not (folder / "plan.json").exists():
            shutil.rmtree(folder, ignore_errors=True)
        return _error(code, said)


def _error(code: int, said: str) -> SafedlError:
    """Return the error that a command ended with, from its exit code and its last words."""
    kinds = {kind.exit_code: kind for kind in (UsageError, NotFoundError, StoreError)}
    lines = said.strip().splitlines() or [f"exit code {code}"]
    start = max((i for i, line in enumerate(lines) if line.startswith("error: ")), default=len(lines) - 1)
    return kinds.get(code, SafedlError)("\n".join(lines[start:]).removeprefix("error: "))


def _step_back(pid: int) -> None:
    """Lower the priority of a process and of its session, where Linux shares the processor by sessions."""
    with suppress(OSError):  # it has ended already, or priorities cannot be set here
        os.setpriority(os.PRIO_PROCESS, pid, NICENESS)
        Path(f"/proc/{pid}/autogroup").write_text(str(NICENESS))


def _only(name: str, matches: Sequence[str], what: str) -> str:
    """Return the one match for `name`. Raises `NotFoundError` if there are several."""
    if len(matches) > 1:
        listed = ", ".join(sorted(matches)[:5]) + ", ..." * (len(matches) > 5)
        raise NotFoundError(f"'{name}' names {len(matches)} {what}; give more of the uid: {listed}")
    return matches[0]


def _defense_name(document: Mapping[str, Any]) -> str:
    detector = document.get("detector")
    return f"{document['defense']} ({detector})" if detector else document["defense"] or "none"


def _ends_run(item: Event, uid: str) -> bool:
    return item["uid"] == uid and item["event"] == "run" and item.get("status") not in OPEN


def new_uid(taken: Container[str] = ()) -> str:
    """Return a fresh uid, none of those `taken`, that sorts by time and is safe as a folder's name."""
    while (uid := f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(3)}") in taken:
        pass
    return uid


def shipped_profiles() -> Path:
    """Return the folder of the profiles that come with Safe-DL: the checkout's, or the installed copy."""
    here = Path(__file__).resolve().parent
    installed = here / "_profiles"
    return installed if installed.is_dir() else here.parent / "profiles"
