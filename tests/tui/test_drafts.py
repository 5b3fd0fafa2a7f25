"""A profile as the Profile pane edits it: changes, undo, and what others write meanwhile."""

from __future__ import annotations

import json

import pytest

from safedl.catalog import ATTACKS
from safedl.errors import UsageError
from safedl.profile.load import load
from safedl.workspace import Workspace
from tests.conclusions.measured import ran, save
from tests.store.samples import Workplace
from tests.tui.conftest import app_on, screen_text, until
from tests.tui.test_profile import PROFILE, at, opened, own
from tui.services import drafts, settings
from tui.services.drafts import Draft, cover
from tui.services.questionnaire import ASKED, NewProfile
from tui.widgets.form import Form


def test_a_threat_given_as_text_stays_one(workspace: Workspace) -> None:
    changes = cover({"threat_model": {"threat_categories": "evasion_attacks"}}, "backdoor_attacks", covered=True)
    assert changes["threat_model", "threat_categories"] == ["evasion_attacks", "backdoor_attacks"]


def test_undo_does_not_take_back_what_somebody_else_wrote(workspace: Workspace) -> None:
    path = own(workspace)
    draft = Draft(workspace, "mine")
    assert draft.change({("training", "epochs"): 7})
    theirs = path.read_text().replace("batch_size: 64", "batch_size: 128  # by a colleague")
    path.write_text(theirs)
    with pytest.raises(UsageError, match="changed elsewhere"):
        draft.undo()
    assert path.read_text() == theirs and "128" in draft.text
    assert not draft.undo()
    assert path.read_text() == theirs


def test_what_could_not_be_saved_is_not_shown_as_saved(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise UsageError("the folder is read-only")

    own(workspace)
    draft = Draft(workspace, "mine")
    with monkeypatch.context() as patch:
        patch.setattr(drafts, "update", refuse)
        with pytest.raises(UsageError):
            draft.change({("training", "epochs"): 7})
    assert draft.document["training"]["epochs"] == 15 and not draft.undo()
    shipped = Draft(workspace, "digits")
    monkeypatch.setattr(drafts, "store", refuse)
    with pytest.raises(UsageError):
        shipped.change({("training", "epochs"): 7})
    assert shipped.shipped and shipped.path.is_file()


@pytest.mark.parametrize("damage", ["model: 5", "training: [1]"])
def test_another_data_set_for_a_profile_with_an_odd_section(workspace: Workspace, damage: str) -> None:
    key = damage.partition(":")[0]
    own(workspace, "name: mine\ndataset: {name: digits}\n" + damage + "\n")
    draft = Draft(workspace, "mine")
    assert key in draft.problems[0].path
    assert settings._follow_dataset(draft, "mnist") == {}


async def test_a_new_profile_replaces_none_that_came_meanwhile(workspace: Workspace) -> None:
    path = own(workspace, name="cam")
    made = NewProfile("cam", {q.id: q.values[0] for q in ASKED})
    with pytest.raises(UsageError, match="made meanwhile"):
        made.write(workspace)
    assert path.read_text() == PROFILE


def test_the_copy_beside_a_profile_is_what_it_was_at_first(workspace: Workspace) -> None:
    path = own(workspace)
    draft = Draft(workspace, "mine")
    for epochs in (7, 8):
        draft.change({("training", "epochs"): epochs})
    assert path.with_name("mine.yaml.bak").read_text() == PROFILE


def test_undo_drops_what_is_not_valid_first(workspace: Workspace) -> None:
    own(workspace)
    draft = Draft(workspace, "mine")
    draft.change({("training", "epochs"): 7})
    assert not draft.change({("training", "epochs"): "many"})
    assert draft.unsaved and draft.undo()
    assert draft.document["training"]["epochs"] == 7


def test_a_recipe_that_somebody_changed_does_not_follow_the_data_set(workspace: Workspace) -> None:
    own(workspace, "name: mine\ndataset: {name: digits}\ntraining: {epochs: 77, batch_size: 64}\n")
    assert ("training", "epochs") not in settings._follow_dataset(Draft(workspace, "mine"), "mnist")


async def test_own_data_does_not_go_by_the_name_shape_and_recipe_of_a_built_in_set(workspace: Workspace) -> None:
    path = own(workspace)
    async with app_on(workspace) as (app, pilot):
        pane = await opened(app, pilot)
        await at(pane, pilot, "dataset")
        await pilot.press("j", "j", "enter", *"photos", "enter")
        await until(lambda: path.read_text() != PROFILE)
        profile = load(path)
        assert profile.dataset is not None and (profile.dataset.name, profile.dataset.type) == ("photos", "custom")
        assert profile.model is not None and (profile.model.input_shape, profile.model.num_classes) == (None, None)
        assert profile.training.epochs == 10
        await until(
            lambda: "name             photos" in screen_text(app) and "data set      photos" in screen_text(app)
        )
        await pilot.press("d")
        await until(lambda: load(path).dataset.path is None)  # type: ignore[union-attr]
        profile = load(path)
        assert profile.dataset is not None and (profile.dataset.name, profile.dataset.type) == ("digits", "builtin")


async def test_data_that_is_not_there_is_told_and_saved_all_the_same(workspace: Workspace) -> None:
    path = own(workspace)
    async with app_on(workspace) as (app, pilot):
        pane = await opened(app, pilot)
        pane.change({("dataset", "path"): "../fotos"})
        assert pane.status == "valid, but dataset.path: no such file here: ../fotos"
        assert "path: ../fotos" in path.read_text()
        (workspace.root / "fotos").mkdir()
        await opened(app, pilot)
        assert pane.status.startswith("valid · ")


async def test_in_the_smallest_terminal_all_answers_to_a_question_are_in_view(workspace: Workspace) -> None:
    own(workspace)
    async with app_on(workspace, (60, 16)) as (app, pilot):
        pane = await opened(app, pilot)
        await at(pane, pilot, "model_access")
        await until(lambda: all(f") {answer}" in screen_text(app) for answer in ("white-box", "gray-box", "black-box")))
        await until(lambda: "black-box: " in screen_text(app))
        pane.picks("threats").focus()
        await until(lambda: pane.picks("threats").size.height > 1)


async def test_a_number_that_is_looked_at_and_taken_is_the_same(workspace: Workspace) -> None:
    path = own(workspace, PROFILE.replace("0.002", "0.0313725490196"))
    async with app_on(workspace) as (app, pilot):
        pane = await opened(app, pilot)
        await at(pane, pilot, "training")
        form = pane.query_one(Form)
        form.lines.cursor = next(i for i, (f, _) in enumerate(form.lines.rows) if f.name == "learning_rate")
        await pilot.press("enter")
        await until(lambda: form.editing)
        await pilot.press("enter")
        await until(lambda: not form.editing)
        await pilot.pause()
        assert load(path).training.learning_rate == 0.0313725490196


def test_an_own_model_does_not_go_by_the_name_of_a_built_in_one(workspace: Workspace) -> None:
    own(workspace)
    (workspace.root / "net.py").write_text("def get_model(): ...\n")
    draft = Draft(workspace, "mine")
    form = settings.settings_of(draft, "model")
    assert draft.change(settings.changes(draft, form, "path", "net.py", reset=False)), draft.problems
    assert draft.profile is not None and draft.profile.model is not None
    assert (draft.profile.model.name, draft.profile.model.type) == ("net", "custom")
    again = settings.settings_of(draft, "model")
    assert next(f for f in again.fields if f.name == "name").default == "net"
    assert any(f.name.startswith("params.") for f in form.fields)
    assert not [f.name for f in again.fields if f.name.startswith("params.")], "those of another network"
    draft.change({("model", "name"): "mine"})
    assert ("model", "name") not in settings.changes(draft, again, "path", "other.py", reset=False)


def test_an_attack_that_is_added_again_keeps_its_parameters() -> None:
    mine = {"attack_overrides": {"backdoor": {"static_patch": {"target_class": 5}}}}
    changes = drafts.added(mine, [ATTACKS["static_patch"]])
    assert ("attack_overrides", "backdoor", "static_patch") not in changes
    assert ("defense_config", "backdoor", "static_patch") in changes


async def test_what_an_editor_leaves_beside_profiles_is_passed_over(workspace: Workspace) -> None:
    own(workspace)
    (workspace.root / "profiles" / ".#mine.yaml").symlink_to("ana@box.1234")
    (workspace.root / "profiles" / "gone.yaml").symlink_to("nowhere")
    assert "mine" in workspace.profiles() and not {".#mine", "gone"} & set(workspace.profiles())
    async with app_on(workspace) as (app, pilot):
        assert (await opened(app, pilot)).draft.name == "mine"


async def test_a_change_of_a_profile_whose_file_is_gone_lands_in_no_other(workspace: Workspace) -> None:
    other, path = own(workspace, PROFILE.replace("mine", "other"), "other"), own(workspace)
    before = other.read_text()
    async with app_on(workspace) as (app, pilot):
        pane = await opened(app, pilot)
        pane.open_profile("mine")
        path.unlink()
        pane.picks("threats").focus()
        for _ in range(2):
            await pilot.press("space")
            await until(lambda: "no such file" in screen_text(app))
            await pilot.press("escape")
            await until(lambda: len(app.screen_stack) == 1)
        assert other.read_text() == before
        assert not path.exists()
        await app.action_go("run")
        await app.action_go("profile")
        assert pane.status == "mine.yaml cannot be read; e opens your editor"
        path.write_text(PROFILE)
        await app.action_go("profile")
        assert pane.status.startswith("valid")


def test_the_profile_that_ran_last(workspace: Workspace) -> None:
    assert drafts.ran_last(workspace) is None
    for uid, name in (("20260101-000000-a", "mine"), ("20260102-000000-b", "other"), ("20260103-000000-c", "gone")):
        if name != "gone":
            own(workspace, name=name)
        folder = workspace.experiment_folder(uid)
        folder.mkdir(parents=True)
        (folder / "plan.json").write_text(json.dumps({"name": name, "stages": {}, "runs": []}))
    assert drafts.ran_last(workspace) == "other"


@pytest.mark.parametrize("pane", ["profile", "risk", "defenses", "ship"])
async def test_whichever_pane_is_opened_first_shows_the_profile_that_ran_last(workspace: Workspace, pane: str) -> None:
    save(workspace.root)
    ran(Workplace(workspace.root))
    own(workspace, name="written_later")
    async with app_on(workspace) as (app, _):
        await app.action_go(pane)
        await until(lambda: app.draft is not None and app.draft.name == "small")


@pytest.mark.parametrize("key", ["escape", "l"])
async def test_leaving_and_opening_another_ask_before_changes_are_lost(workspace: Workspace, key: str) -> None:
    own(workspace, PROFILE.replace("mine", "other"), "other")
    path = own(workspace)
    async with app_on(workspace) as (app, pilot):
        drafts.choose(app, "mine")
        pane = await opened(app, pilot)
        pane.change({("training", "epochs"): -3})
        pane.change({("threat_model", "model_access"): "gray-box"})
        assert path.read_text() == PROFILE
        pane.open_profile("other")
        await until(lambda: "mine has changes that are not saved" in screen_text(app))
        assert "training.epochs: -3 is not allowed" in screen_text(app)
        await pilot.press("escape")
        await until(lambda: len(app.screen_stack) == 1)
        assert pane.draft.name == "mine" and pane.draft.unsaved
        await pilot.press("ctrl+q")
        await until(lambda: "leave: what is not saved is lost" in screen_text(app))
        await pilot.press(key)
        await until(lambda: len(app.screen_stack) == 1 if key == "escape" else not app.is_running)
        assert app.is_running == (key == "escape")


@pytest.mark.parametrize("key", ["escape", "l"])
async def test_a_new_profile_is_shown_after_it_was_asked_whether_changes_of_another_may_be_lost(
    workspace: Workspace, key: str
) -> None:
    own(workspace)
    async with app_on(workspace) as (app, pilot):
        drafts.choose(app, "mine")
        pane = await opened(app, pilot)
        pane.change({("training", "epochs"): -3})
        *most, last = ASKED
        pane._keep(NewProfile("fresh", {q.id: q.values[0] for q in most}))
        pane.open_profile("")
        pane.picks("rail").point_at(last.id)
        pane._answer(last.id, last.values[0])
        await until(lambda: "mine has changes that are not saved" in screen_text(app))
        assert not app._notifications
        await pilot.press(key)
        await until(lambda: len(app.screen_stack) == 1)
        await pilot.pause()
        assert (workspace.root / "profiles" / "fresh.yaml").exists()
        assert (pane.draft.name, pane.draft.unsaved) == (("mine", True) if key == "escape" else ("fresh", False))
        assert (app.focused is pane.picks("threats")) == (key == "l")
