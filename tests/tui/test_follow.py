from __future__ import annotations

import time
from pathlib import Path

import pytest

from safedl import events
from safedl.workspace import Workspace
from tests.tui.conftest import NOW, UID, FakeDriver, recorded
from tui.services.follow import ExperimentState, Hub, StageState, log_lines, stage_order


def state_after(count: int | None = None) -> ExperimentState:
    state = ExperimentState(UID)
    state.alive = True
    for item in recorded()[:count]:
        state.apply(item)
    return state


def read(hub: Hub) -> list[str]:
    return [state.uid for state in hub.apply(hub.read())]


def test_all_stages_of_a_finished_experiment_are_completed_with_their_results() -> None:
    state = state_after()
    assert state.state == "completed"
    assert [s.status for s in state.stages.values()] == ["completed"] * 7
    attack = next(s for s in state.stages.values() if s.id == "static_patch@0")
    assert attack.metrics["asr"] == pytest.approx(0.9912, abs=1e-4)
    assert attack.curves["train.loss"][-1][0] == 15
    assert len(attack.curves["train.loss"]) == 15
    assert attack.ended - attack.started == 13  # type: ignore[operator]


def test_in_the_middle_one_stage_runs_and_the_rest_waits() -> None:
    state = state_after(20)
    assert [s.status for s in state.stages.values()] == ["running"] + ["queued"] * 6
    baseline = next(iter(state.stages.values()))
    assert 0 < baseline.fraction < 1
    assert baseline.phase == "train"


def test_the_remaining_time_follows_the_finished_share() -> None:
    state = state_after(39)  # the baseline ended, of seven stages
    assert state.started is not None
    assert state.remaining(state.started + 10) == 60.0
    assert state_after(2).remaining(NOW) is None


def test_what_was_only_linked_tells_nothing_of_the_remaining_time() -> None:
    state = state_after(1)
    *linked, done = list(state.stages)[:4]
    for uid in linked:
        state.apply(events.event("run", uid, status="linked"))
    for status in ("running", "completed"):
        state.apply(events.event("run", done, status=status))
    assert state.started is not None
    assert state.remaining(state.started + 10) == 30.0  # one of four took ten seconds


def test_a_phase_that_does_more_than_it_said_is_done() -> None:
    assert StageState("u", "x@0", "attack", None, "x", done=12, total=10).fraction == 1.0


def test_parents_stand_before_their_children() -> None:
    ordered = stage_order(state_after(1))
    position = {s.id: i for i, s in enumerate(ordered)}
    assert len(ordered) == 7
    assert all(s.parent is None or position[s.parent] < position[s.id] for s in ordered)


def test_the_log_leaves_out_what_bars_and_curves_show_and_disarms_escape_codes() -> None:
    state = state_after()
    assert not any("train.loss" in line for line in state.log)
    uid = next(iter(state.stages))
    state.apply(events.event("log", uid, level="warning", message="a\x1b[31mb\nc"))
    assert state.log[-1].endswith(r"WARNING a\x1b[31mb c")


def test_the_log_tells_the_time_of_the_place_as_the_list_of_runs_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "America/New_York")
    time.tzset()
    item = {**events.event("log", "r", level="info", message="hello"), "at": "2026-11-23T03:42:39.000+00:00"}
    assert log_lines([item, {**item, "at": None}]) == ["22:42:39 hello", "         hello"]
    assert state_after(2).log[0].startswith("22:41:53 demo")


def test_the_names_of_bounds_can_be_told_apart_in_the_log() -> None:
    begin, *_ = recorded()
    ids = [f"learned_trigger/random_removal:{d}@0" for d in ("activation_clustering", "anomaly_detection")]
    stages = [{**stage, "id": id} for stage, id in zip(begin["stages"], ids, strict=False)]
    state = ExperimentState(UID)
    state.apply({**begin, "stages": stages})
    for stage in stages:
        state.apply(events.event("run", stage["uid"], status="running"))
    assert [line[9:].split()[0][-9:] for line in list(state.log)[1:]] == ["lustering", "detection"]


def test_a_driver_that_died_leaves_interrupted_stages() -> None:
    state = state_after(20)
    state.alive = False
    assert state.state == "interrupted"
    assert [state.state_of(s) for s in state.stages.values()] == ["interrupted"] * 7


def test_the_hub_finds_drivers_that_others_started_and_tells_their_end(workspace: Workspace) -> None:
    clock = [NOW]
    hub = Hub(workspace, lambda: clock[0])
    driver = FakeDriver(workspace, recorded())
    driver.say(20)
    assert read(hub) == []
    assert hub.running == {UID}
    assert hub.experiments[UID].state == "running"
    driver.say()
    driver.leave()
    clock[0] += 2
    assert read(hub) == [UID]
    assert hub.experiments[UID].state == "completed"
    assert hub.experiments[UID].finished == 7
    clock[0] += 2
    assert read(hub) == []


def test_an_experiment_that_ended_before_it_was_followed_does_not_end_again(workspace: Workspace) -> None:
    driver = FakeDriver(workspace, recorded())
    driver.say()
    driver.leave()
    hub = Hub(workspace, lambda: NOW)
    hub.follow(UID)
    assert read(hub) == []


def test_the_hub_finds_a_driver_that_resumes_what_had_died(workspace: Workspace) -> None:
    clock = [NOW]
    hub = Hub(workspace, lambda: clock[0])
    first = FakeDriver(workspace, recorded())
    first.say(20)
    first.leave()
    read(hub)
    assert not hub.running
    resumed = FakeDriver(workspace, recorded())
    resumed.say(5)
    clock[0] += 2
    read(hub)
    assert hub.running == {UID}
    resumed.leave()


def test_a_line_that_is_half_written_is_read_when_it_is_whole(workspace: Workspace) -> None:
    hub = Hub(workspace, lambda: NOW)
    driver = FakeDriver(workspace, recorded())
    driver.say(5)
    read(hub)
    path: Path = driver.folder / "events.jsonl"
    with path.open("a") as file:
        file.write('{"event": "log", "uid": "')
    read(hub)
    before = hub.experiments[UID].version
    with path.open("a") as file:
        file.write(f'{UID}", "at": "", "level": "info", "message": "whole"}}\n')
    read(hub)
    assert hub.experiments[UID].version == before + 1
    assert hub.experiments[UID].log[-1].endswith("whole")
    driver.leave()


def test_a_cancel_file_shows_as_stopping_whoever_wrote_it(workspace: Workspace) -> None:
    hub = Hub(workspace, lambda: NOW)
    driver = FakeDriver(workspace, recorded())
    driver.say(20)
    read(hub)
    state = hub.experiments[UID]
    running = next(iter(state.stages.values()))
    workspace.run_folder(running.uid).mkdir(parents=True)
    workspace.cancel(running.uid)
    read(hub)
    assert state.state_of(running) == "stopping"
    assert state.state == "running"
    workspace.cancel(UID)
    read(hub)
    assert state.state == "stopping"
    driver.leave()


def test_a_resumed_experiment_starts_with_its_new_stages(workspace: Workspace) -> None:
    state = state_after(20)
    again = {**recorded()[0], "stages": [{**recorded()[0]["stages"][0], "uid": "new"}]}
    state.apply(again)
    assert list(state.stages) == ["new"]
    assert state.state == "running"
