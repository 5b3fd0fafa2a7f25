from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from safedl.cache import ArtifactCache
from safedl.defenses.contract import Findings, Scenario
from safedl.errors import SafedlError, StoreError, UsageError
from safedl.events import Event
from safedl.pipeline import stages
from safedl.pipeline.driver import Request, prepare
from safedl.profile.load import parse
from safedl.progress import Progress
from safedl.store import queries, recover
from safedl.store.recorder import Recorder
from safedl.store.reindex import reindex
from safedl.workspace import Workspace, new_uid

from .conftest import PROFILE, Drive

STAGES = {
    "baseline@0",
    "label_flipping@0",
    "label_flipping/robust_loss@0",
    "static_patch@0",
    "static_patch/activation_clustering@0",
    "static_patch/perfect_removal@0",
    "static_patch/random_removal:activation_clustering@0",
}


def results(workspace: Workspace) -> dict[str, dict[str, Any]]:
    """Return each run's result without what depends on the clock, by kind, attack and defense."""
    found = {}
    for path in workspace.results.glob("runs/*/result.json"):
        document = json.loads(path.read_text())
        for key in ("timing", "uid"):
            document.pop(key)
        found[f"{document['kind']}/{document['attack']}/{document['defense']}"] = document
    return found


def test_everything_completes_once_and_is_then_only_linked(workspace: Workspace, run: Drive) -> None:
    first = run()
    assert first.code == 0
    assert first.statuses() == dict.fromkeys(STAGES, "completed")
    models = [a for a in ArtifactCache(workspace.cache).entries() if a.kind == "model"]
    second = run()
    assert second.code == 0
    assert second.statuses() == dict.fromkeys(STAGES, "linked")
    assert [a for a in ArtifactCache(workspace.cache).entries() if a.kind == "model"] == models
    assert len(queries.runs(workspace.db, limit=100)) == len(STAGES)
    published = workspace.results / "backdoor" / "static_patch" / "activation_clustering_results.json"
    found = json.loads(published.read_text())
    assert set(found["bounds"]) == {"perfect_removal", "random_removal"}
    assert found["bounds"]["random_removal"]["removed"] == found["metrics"]["removed"] > 0
    documents = results(workspace).values()
    assert all(document["effective"] for document in documents if document["kind"] == "attack")
    assert not any("ranks nothing" in note for document in documents for note in document["notes"])


def test_memory_is_measured_where_a_stage_has_a_peak_of_its_own(
    workspace: Workspace, run: Drive, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(attacks=("label_flipping",), defenses=("robust_loss",))
    documents = [json.loads(path.read_text()) for path in workspace.results.glob("runs/*/result.json")]
    assert len(documents) == 3
    assert all(set(document["timing"]) == {"seconds"} for document in documents)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda _device: 3 * 2**20)
    assert stages._memory(torch.device("cuda")) == {"memory_mb": 3.0}


def test_same_profile_and_seed_give_the_same_results(tmp_path: Path, run: Drive) -> None:
    left, right = Workspace.open(tmp_path / "left"), Workspace.open(tmp_path / "right")
    run(at=left)
    run(at=right, workers=2)
    assert results(left) == results(right)


def test_another_seed_gives_other_results(workspace: Workspace, run: Drive) -> None:
    driven = run(seeds=(1, 0), attacks=("label_flipping",), defenses=("robust_loss",))
    assert driven.code == 0
    documents = [json.loads(p.read_text()) for p in workspace.results.glob("runs/*/result.json")]
    attacked = {d["seed"]: d for d in documents if d["kind"] == "attack"}
    clean = {d["seed"]: d["metrics"] for d in documents if d["kind"] == "baseline"}
    assert attacked.keys() == clean.keys() == {0, 1}
    assert attacked[0]["metrics"] != attacked[1]["metrics"] and clean[0] != clean[1]
    assert all(attacked[seed]["baseline"] == clean[seed] for seed in (0, 1))
    assert json.loads((workspace.results / "baseline_accuracy.json").read_text())["seed"] == 0  # the first is shown


def test_a_defense_may_ruin_the_model_that_it_is_given(
    workspace: Workspace, run: Drive, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ruin(scenario: Scenario, _params: object) -> Findings:
        with torch.no_grad():
            for weight in scenario.model.parameters():
                weight.zero_()
        return Findings(False)

    monkeypatch.setattr(stages, "load_defense", lambda _spec: ruin)
    run(attacks=("label_flipping",), defenses=("robust_loss",))
    found = {document["kind"]: document["metrics"] for document in results(workspace).values()}
    assert found["defense"]["clean_accuracy"] == found["attack"]["clean_accuracy"]


def test_without_cache_everything_is_computed_again(workspace: Workspace, run: Drive) -> None:
    run(attacks=("label_flipping",))
    again = run(attacks=("label_flipping",), use_cache=False)
    assert set(again.statuses().values()) == {"completed"}
    assert len(queries.runs(workspace.db, limit=100)) == 6


def test_interrupt_cancels_and_resuming_completes(workspace: Workspace, run: Drive) -> None:
    def interrupt(item: Event) -> None:
        if item["event"] == "run" and item["status"] == "completed":
            signal.raise_signal(signal.SIGINT)

    stopped = run(interrupt)
    assert stopped.code == 130
    assert stopped.statuses()["baseline@0"] == "completed"
    assert set(stopped.statuses().values()) == {"completed", "cancelled"}
    resumed = run(experiment=stopped.uid)
    assert resumed.code == 0
    assert resumed.statuses()["baseline@0"] == "linked"
    rows = {r.record.stage: r.record for r in queries.runs(workspace.db, status="completed", limit=100)}
    assert rows.keys() == STAGES
    assert (rows["baseline@0"].attempt, rows["static_patch@0"].attempt) == (1, 2)
    assert workspace.experiments() == [stopped.uid]


def test_what_is_said_after_a_torn_line_is_read(workspace: Workspace, run: Drive) -> None:
    """A machine that goes down leaves one where no run was open any more."""
    first = run(attacks=("label_flipping",), defenses=("robust_loss",))
    journal = workspace.experiment_folder(first.uid) / "events.jsonl"
    journal.write_bytes(journal.read_bytes()[:-20])
    run(attacks=("label_flipping",), defenses=("robust_loss",), experiment=first.uid)
    told = [e["status"] for e in workspace.events(first.uid) if e["event"] == "experiment"]
    assert told == ["started", "started", "completed"]


def test_a_resumed_experiment_keeps_its_birth(workspace: Workspace, run: Drive, tmp_path: Path) -> None:
    first = run(attacks=("label_flipping",), defenses=("robust_loss",), seeds=(0,))
    born = queries.experiments(workspace.db)[0].record
    plan = workspace.experiment_folder(first.uid) / "plan.json"
    plan.write_text(json.dumps({**json.loads(plan.read_text()), "profile": "/home/me/first.yaml"}))
    run(attacks=("label_flipping",), defenses=("robust_loss",), seeds=(0,), experiment=first.uid)
    record = queries.experiments(workspace.db)[0].record
    assert (record.created_at, record.profile) == (born.created_at, "/home/me/first.yaml")
    assert json.loads(plan.read_text())["created_at"] == born.created_at


def test_no_uid_is_given_twice() -> None:
    taken: set[str] = set()
    for _ in range(20_000):
        taken.add(new_uid(taken))
    assert len(taken) == 20_000


def test_what_a_dead_driver_finished_but_did_not_store_is_not_run_again(
    workspace: Workspace, run: Drive, monkeypatch: pytest.MonkeyPatch
) -> None:
    apply = Recorder.apply

    def die(self: Recorder, items: Sequence[Event]) -> None:
        if any(e["event"] == "run" and e["status"] == "completed" for e in items):
            raise SystemExit  # the files have it, the store has not
        apply(self, items)

    monkeypatch.setattr(Recorder, "apply", die)
    with pytest.raises(SystemExit):
        run(attacks=("label_flipping",), defenses=("robust_loss",), workers=1)
    monkeypatch.setattr(Recorder, "apply", apply)
    assert queries.runs(workspace.db, status="completed") == []
    resumed = run(
        experiment=workspace.experiments()[0], attacks=("label_flipping",), defenses=("robust_loss",), workers=1
    )
    assert resumed.statuses()["baseline@0"] == "linked"
    assert len(queries.runs(workspace.db, kind="baseline")) == 1


def test_cancel_file_of_one_run_stops_that_stage_alone(workspace: Workspace, run: Drive) -> None:
    def ask(item: Event) -> None:
        if item["event"] == "experiment" and item["status"] == "started":
            flipping = next(s["uid"] for s in item["stages"] if s["id"] == "label_flipping@0")
            workspace.cancel(flipping)

    driven = run(ask)
    assert driven.code == 3
    statuses = driven.statuses()
    assert statuses.pop("label_flipping@0") == "cancelled"
    assert statuses.pop("label_flipping/robust_loss@0") == "skipped"
    assert set(statuses.values()) == {"completed"}


def failing(message: str) -> Any:
    def load(_spec: object) -> Any:
        def defense(_scenario: object, _params: object) -> None:
            raise ZeroDivisionError(message)

        return defense

    return load


def test_stage_that_raises_fails_and_the_rest_goes_on(
    workspace: Workspace, run: Drive, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stages, "load_defense", failing("planted"))
    driven = run()
    assert driven.code == 3
    statuses = driven.statuses()
    assert statuses["static_patch/activation_clustering@0"] == "failed"
    assert statuses["static_patch/random_removal:activation_clustering@0"] == "skipped"
    assert statuses["static_patch/perfect_removal@0"] == "completed"
    failed = queries.runs(workspace.db, status="failed", defense="activation_clustering")
    assert failed[0].error == "ZeroDivisionError: planted (safedl runs logs shows where)"
    skipped = queries.runs(workspace.db, status="skipped")
    assert [row.error for row in skipped] == ["static_patch/activation_clustering@0 failed"]


def raising(error: Callable[[], object]) -> Any:
    def load(_spec: object) -> Any:
        def defense(_scenario: object, _params: object) -> None:
            error()

        return defense

    return load


def torch_error() -> None:
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")


def python_error() -> None:
    raise MemoryError


def full_disk() -> None:
    raise OSError(errno.ENOSPC, "No space left on device", "/x/model.pt")


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (python_error, "out of memory: lower training.batch_size"),
        (torch_error, "out of memory: lower training.batch_size"),
        (lambda: torch.empty(10**15), "out of memory: lower training.batch_size"),  # a plain RuntimeError on a CPU
        (full_disk, "no space left on the disk; free some: /x/model.pt"),
        (sys.exit, "SystemExit"),
    ],
)
def test_a_stage_says_why_it_failed_and_what_to_do(
    workspace: Workspace, run: Drive, monkeypatch: pytest.MonkeyPatch, error: Callable[[], object], reason: str
) -> None:
    monkeypatch.setattr(stages, "load_defense", raising(error))
    driven = run(attacks=("static_patch",))
    assert driven.code == 3
    statuses = driven.statuses()
    assert statuses["static_patch/activation_clustering@0"] == "failed"
    assert statuses["static_patch/perfect_removal@0"] == "completed"
    failed = queries.runs(workspace.db, status="failed")
    assert failed[0].error is not None
    assert reason in failed[0].error


def test_stage_without_a_sign_of_life_is_given_up(run: Drive, monkeypatch: pytest.MonkeyPatch) -> None:
    def hang(_lab: object, job: stages.Job, _progress: Progress) -> Any:
        time.sleep(4 if job.stage.attack == "static_patch" else 0)
        return {"metrics": {}, "timing": {}, "kind": job.stage.kind}

    monkeypatch.setattr("safedl.pipeline.executor.execute", hang)
    monkeypatch.setattr("safedl.reports.publish", lambda *_args, **_more: None)
    driven = run(stall=0.5)
    assert (driven.code, driven.hanging) == (3, True)
    statuses = driven.statuses()
    assert statuses["static_patch@0"] == "failed"
    assert statuses["label_flipping/robust_loss@0"] == "completed"


def test_the_time_that_a_driver_was_stopped_is_no_silence_of_its_stages(
    run: Drive, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(_lab: object, job: stages.Job, _progress: Progress) -> Any:
        if job.stage.kind == "baseline":
            time.sleep(0.2)
            words = "kill -STOP $0; sleep 2; kill -CONT $0; sleep 0.3"
            subprocess.run(["sh", "-c", words, str(os.getpid())], check=True)
        return {"metrics": {}, "timing": {}, "kind": job.stage.kind}

    monkeypatch.setattr("safedl.pipeline.executor.execute", stopped)
    monkeypatch.setattr("safedl.reports.publish", lambda *_args, **_more: None)
    driven = run(stall=1.5, attacks=("label_flipping",), defenses=("robust_loss",))
    assert (driven.code, set(driven.statuses().values())) == (0, {"completed"})


def test_a_stage_that_hangs_is_given_up_though_its_driver_is_held_up_now_and_then(
    run: Drive, monkeypatch: pytest.MonkeyPatch
) -> None:
    def hang(_lab: object, job: stages.Job, progress: Progress) -> Any:
        for _ in range(12 if job.stage.kind == "baseline" else 0):
            time.sleep(0.8)
            progress.log("no step")
        return {"metrics": {}, "timing": {}, "kind": job.stage.kind}

    monkeypatch.setattr("safedl.pipeline.executor.execute", hang)
    monkeypatch.setattr("safedl.pipeline.executor.STANDSTILL", 0.2)
    monkeypatch.setattr("safedl.reports.publish", lambda *_args, **_more: None)
    some = {"attacks": ("label_flipping",), "defenses": ("robust_loss",)}
    driven = run(lambda item: time.sleep(0.3 * (item["event"] == "log")), stall=1.0, **some)
    assert driven.statuses()["baseline@0"] == "failed"


def test_a_folder_deleted_before_its_run_began_is_named_and_resuming_completes(
    workspace: Workspace, run: Drive
) -> None:
    some = {"attacks": ("label_flipping",), "defenses": ("robust_loss",)}

    def delete(item: Event) -> None:
        if item["event"] == "experiment" and item["status"] == "started":
            shutil.rmtree(workspace.run_folder(item["stages"][0]["uid"]))

    with pytest.raises(SafedlError, match=r"is gone: .*go on with: safedl resume"):
        run(delete, experiment="e", **some)
    assert run(experiment="e", **some).code == 0


def test_two_drivers_cannot_share_an_experiment(workspace: Workspace, run: Drive) -> None:
    refused: list[str] = []

    def second(item: Event) -> None:
        if item["event"] == "experiment" and item["status"] == "started":
            assert workspace.is_running(item["uid"])
            with pytest.raises(StoreError, match="running already"):
                run(experiment=item["uid"])
            refused.append(item["uid"])

    driven = run(second, attacks=("label_flipping",), defenses=("robust_loss",))
    assert (driven.code, refused) == (0, [driven.uid])


def test_a_driver_does_not_begin_while_its_store_is_replaced(
    workspace: Workspace, run: Drive, monkeypatch: pytest.MonkeyPatch
) -> None:
    some = {"attacks": ("label_flipping",), "defenses": ("robust_loss",)}
    run(**some)
    looked, began = threading.Event(), threading.Event()

    def living_drivers(results: Path) -> list[str]:
        found = recover.living_drivers(results)
        if looks := next(looking):
            looked.set()
            began.wait(2 * looks)
        return found

    looking = iter((0, 1))
    monkeypatch.setattr("safedl.store.reindex.living_drivers", living_drivers)
    replacing = threading.Thread(target=reindex, args=(workspace.db, workspace.results))
    replacing.start()
    assert looked.wait(60)
    driven = run(lambda _: began.set(), seeds=(1,), **some)
    replacing.join()
    assert {row.record.seed for row in queries.runs(workspace.db, experiment=driven.uid)} == {1}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("input_shape: [3, 8, 8]", r"input_shape.*3, 8, 8.*1, 8, 8"),
        ("num_classes: 7", "num_classes.*7.*10"),
        ("weights: gone.pt", "gone.pt"),
    ],
)
def test_what_only_data_and_model_can_tell_is_refused_before_anything_is_written(
    workspace: Workspace, change: str, message: str
) -> None:
    text = PROFILE.replace("{name: cnn,", f"{{name: cnn, {change},")
    with pytest.raises(UsageError, match=message):
        prepare(workspace, Request(profile=parse(text)))
    assert not workspace.results.exists()
    assert not workspace.db.exists()
