from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import count
from pathlib import Path

import pytest
from textual.pilot import Pilot

from safedl.catalog import DEFENSES
from safedl.profile.load import load, parse
from safedl.workspace import Workspace
from tests.conclusions.measured import PROFILE, ran, save
from tests.store.samples import Workplace
from tests.tui.conftest import SIZES, FakeDriver, app_on, golden, recorded, screen_text, until
from tui.app import SafedlApp
from tui.panes.defenses import DefensesPane
from tui.services import plan_cost
from tui.services.defending import Recommended, defending, differences
from tui.services.drafts import Draft, choose
from tui.services.plan_cost import Cost, History
from tui.services.questionnaire import ASKED, NewProfile

MNIST = "dataset: {name: mnist}"
EMPTY = "name: bare\ndataset: {name: digits}\nmodel: {name: cnn}\n"


async def opened(app: SafedlApp, pilot: Pilot[None]) -> DefensesPane:
    await app.action_go("defenses")
    await pilot.pause()
    pane = app.pane
    assert isinstance(pane, DefensesPane)
    return pane


def chosen(path: Path, attack: str) -> dict[str, dict[str, object]]:
    found = next(a for a in load(path).attacks if a.spec.name == attack)
    return {d.spec.name: d.params.model_dump() for d in found.defenses}


async def test_a_defense_is_toggled_and_a_parameter_changed(workspace: Workspace) -> None:
    path = save(workspace.root)
    async with app_on(workspace) as (app, pilot):
        pane = await opened(app, pilot)
        pane.show_attack("label_flipping")
        await until(lambda: app.focused is pane.picks("defenses"))
        pane.picks("defenses").point_at("data_cleaning")
        await pilot.press("space")
        await until(lambda: set(chosen(path, "label_flipping")) == {"robust_loss", "data_cleaning"})
        await pilot.press("enter")
        pane.query_one("Form FieldLines").cursor = 2
        assert pane.query_one("Form").lines.current.name == "folds"
        await pilot.press("enter", "ctrl+u", *"99", "enter")
        await until(lambda: "! 99 is not allowed" in screen_text(app))
        assert "folds" not in path.read_text()
        assert pane.status.startswith("not saved: 1 value not valid")
        await pilot.press("r")
        assert app.pane is pane
        await pilot.press("enter", "ctrl+u", *"5", "enter")
        await until(lambda: chosen(path, "label_flipping")["data_cleaning"]["folds"] == 5)
        app.clear_notifications()
        await until(lambda: "~ data_cleaning.folds  3 → 5" in screen_text(app))
        assert "# who reads this?" in path.read_text()
        await pilot.press("d")
        await until(lambda: "folds" not in path.read_text())


async def test_the_recommendation_is_accepted(workspace: Workspace) -> None:
    path = save(workspace.root)
    async with app_on(workspace) as (app, pilot):
        pane = await opened(app, pilot)
        assert [p.mark for p in pane.picks("attacks").picks] == ["C", "C"] or pane.picks("attacks").picks[
            0
        ].mark in "RC"
        pane.show_attack("label_flipping")
        await pilot.press("a")
        await until(lambda: list(chosen(path, "label_flipping")) == ["data_cleaning", "robust_loss", "dp_training"])
        assert next(p for p in pane.picks("attacks").picks if p.value == "label_flipping").mark == "R"
        await pilot.press("u")
        await until(lambda: list(chosen(path, "label_flipping")) == ["robust_loss"])


async def test_a_new_profile_runs_all_that_apply_and_nobody_has_changed_that(workspace: Workspace) -> None:
    answers = {q.id: q.values[0] for q in ASKED} | {"training_data_source": "mixed"}
    path = NewProfile("fresh", answers).write(workspace)
    async with app_on(workspace) as (app, pilot):
        pane = await opened(app, pilot)
        pane.show_attack("label_flipping")
        await until(lambda: "this profile runs all that apply; a takes the 3" in screen_text(app))
        assert "Changed from" not in screen_text(app) and "+ " not in screen_text(app)
        assert {p.mark for p in pane.picks("attacks").picks} == {"A"}
        await pilot.press("space")
        await until(lambda: "Changed from the recommendation" in screen_text(app))
        assert len(chosen(path, "label_flipping")) == 3


async def test_what_was_measured_is_recommended(workspace: Workspace) -> None:
    save(workspace.root)
    ran(Workplace(workspace.root))
    async with app_on(workspace) as (app, pilot):
        pane = await opened(app, pilot)
        await until(lambda: pane.advice)
        pane.show_attack("static_patch")
        lines = {p.value: p for p in pane.picks("defenses").picks}
        assert next(iter(lines)) == "spectral_signatures"
        assert "0:10  measured on digits / cnn, 2 seeds" in lines["spectral_signatures"].note
        assert "no help" in lines["activation_clustering"].note
        pane.show_attack("label_flipping")
        assert "nothing is recommended: the attack did not work here" in screen_text(app)


async def test_one_profiles_recommendation_never_stands_under_another(workspace: Workspace) -> None:
    save(workspace.root)
    ran(Workplace(workspace.root))
    other = workspace.root / "profiles" / "other.yaml"
    other.write_text(PROFILE.replace("name: small", "name: other").replace("dataset: {name: digits}", MNIST))
    async with app_on(workspace) as (app, pilot):
        choose(app, "small")
        pane = await opened(app, pilot)
        await until(lambda: pane.advice and pane.history.seconds)
        await app.action_go("run")
        choose(app, "other")
        workspace.db.write_bytes(b"rubbish" * 1000)
        pane = await opened(app, pilot)
        await until(lambda: "Could not read what was measured" in screen_text(app))
        assert not pane.advice and not pane.history.seconds


def test_a_plan_costs_what_its_stages_took(tmp_path: Path) -> None:
    work = Workplace(tmp_path)
    profile = ran(work, seeds=(0,))
    known = plan_cost.history(work.db, profile)
    assert plan_cost.cost(profile, known) == Cost(0, 11, 0, 0.0)
    other = parse(PROFILE.replace("target_class: 2", "target_class: 3").replace("[robust_loss]", "[dp_training]"))
    # dp_training never ran; the attack, three detectors at 30, 10 and 1, and four bounds have to run again
    assert plan_cost.cost(other, known) == Cost(9, 2, 1, 30.0 + 41.0 + 4 * 30.0)
    assert plan_cost.cost(profile, History()) == Cost(11, 0, 11, 0.0)


def test_measuring_a_defense_is_part_of_how_long_it_takes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begin = datetime(2026, 1, 1, tzinfo=UTC)
    clock = ((begin + timedelta(seconds=10 * n)).isoformat() for n in count())
    monkeypatch.setattr("safedl.events.now", partial(next, clock))
    work = Workplace(tmp_path)
    profile = ran(work, seeds=(0,))
    known = plan_cost.history(work.db, profile)
    assert known.of("robust_loss", "label_flipping") == pytest.approx(60.0, abs=0.01)  # 30 are the method's own
    assert known.of("anomaly_detection", "static_patch") == pytest.approx(60.0, abs=0.01)


def test_what_another_seed_did_is_still_to_be_done(tmp_path: Path) -> None:
    work = Workplace(tmp_path)
    ran(work, seeds=(1,))
    profile = parse(PROFILE)  # seed 0
    assert plan_cost.cost(profile, plan_cost.history(work.db, profile)).done == 0


def test_a_parameter_that_says_the_default_is_no_difference(workspace: Workspace) -> None:
    default = DEFENSES["fine_pruning"].params.model_fields["pruning_ratio"].default
    text = PROFILE.replace(
        "[activation_clustering, spectral_signatures, anomaly_detection]",
        f"[fine_pruning], fine_pruning: {{pruning_ratio: {default}}}",
    )
    save(workspace.root, text)
    now, advised = defending(Draft(workspace, "small"), "static_patch"), Recommended(("fine_pruning",), {}, False)
    assert differences(now, advised) == []
    assert now.mode(advised) == "R"


async def test_the_cost_follows_when_an_experiment_ends(workspace: Workspace) -> None:
    save(workspace.root)
    driver = FakeDriver(workspace, recorded())
    async with app_on(workspace, clock=time.monotonic) as (app, pilot):
        await until(lambda: app.hub.running)
        pane = await opened(app, pilot)
        await until(lambda: "runs to do" in screen_text(app) and pane._ran)
        assert not pane.advice
        ran(Workplace(workspace.root), seeds=(0,))
        driver.leave()
        # The recipe and the seed are known here, not whether the data are those of then: `safedl plan` may differ.
        await until(lambda: pane.advice and "kept unless outdated" in screen_text(app))
        assert "done before" in screen_text(app)


async def test_the_plan_is_started_and_watched(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save(workspace.root)
    started: list[Path] = []

    def start(self: Workspace, profile: Path, arguments: tuple[str, ...] = ()) -> str:
        started.append(profile)
        folder = self.experiment_folder("x1")
        folder.mkdir(parents=True)
        (folder / "plan.json").write_text('{"name": "small", "stages": {}, "runs": []}')
        (folder / "events.jsonl").write_text("")
        return "x1"

    monkeypatch.setattr(Workspace, "start", start)
    async with app_on(workspace) as (app, pilot):
        await opened(app, pilot)
        await pilot.press("r")
        await until(lambda: started)
        assert started == [path]
        assert app.pane is not None and app.pane.id == "run"


async def test_a_profile_without_attacks_says_what_to_do(workspace: Workspace) -> None:
    save(workspace.root, EMPTY)
    async with app_on(workspace) as (app, pilot):
        pane = await opened(app, pilot)
        for key in ("a", "c", "enter", "space", "r", "escape"):
            await pilot.press(key)
        assert app.pane is pane
        app.clear_notifications()
        await until(lambda: "reading" not in pane.status and not app.query("Toast"))
        await pilot.pause()
        await golden(app, "defenses_empty")


async def test_a_profile_that_cannot_be_read_shows_nothing_of_another_one(workspace: Workspace) -> None:
    save(workspace.root)
    (workspace.root / "profiles" / "broken.yaml").write_text("name: [broken\n")
    async with app_on(workspace) as (app, pilot):
        choose(app, "small")
        await opened(app, pilot)
        await until(lambda: "· parameters" in screen_text(app))
        choose(app, "broken")
        await opened(app, pilot)
        await until(lambda: "This profile cannot be read" in screen_text(app))
        text = screen_text(app)
        assert "cannot be read" in text and "names no attack" not in text
        assert "label_flipping" not in text and "· parameters" not in text and "★" not in text


@pytest.mark.parametrize("size", SIZES)
async def test_screens(workspace: Workspace, size: tuple[int, int]) -> None:
    save(workspace.root)
    ran(Workplace(workspace.root))
    async with app_on(workspace, size) as (app, pilot):
        pane = await opened(app, pilot)
        await until(lambda: pane.advice)
        pane.show_attack("label_flipping")
        pane.picks("defenses").point_at("data_cleaning")
        await pilot.pause()
        await golden(app, "defenses")
        await pilot.press("enter", "j", "j", "enter", "ctrl+u", *"99", "enter")
        await until(lambda: "! 99 is not allowed" in screen_text(app))
        await pilot.pause()
        await golden(app, "defenses_error")
