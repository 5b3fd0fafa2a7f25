from __future__ import annotations

from pathlib import Path

import pytest
from textual.pilot import Pilot

from safedl.catalog import ATTACKS
from safedl.profile.load import load
from safedl.threats import CATEGORIES, QUESTIONS
from safedl.workspace import Workspace
from tests.tui.conftest import SIZES, app_on, golden, screen_text, until
from tui.app import SafedlApp
from tui.panes.profile import ProfilePane
from tui.services.drafts import cover
from tui.services.questionnaire import ASKED, NewProfile
from tui.widgets.fillin import FillIn
from tui.widgets.form import Entry, Form
from tui.widgets.pane import Box

PROFILE = """\
# mine
name: mine
dataset: {name: digits}
model: {name: cnn, input_shape: [1, 8, 8], num_classes: 10}
training:
  epochs: 15 # enough
  batch_size: 64
  learning_rate: 0.002
threat_model:
  model_access: black-box
  threat_categories: [data_poisoning]
attack_overrides:
  data_poisoning:
    label_flipping: {flip_rate: 0.3}
defense_config:
  data_poisoning:
    label_flipping: {defenses: [robust_loss]}
"""


def own(workspace: Workspace, text: str = PROFILE, name: str = "mine") -> Path:
    folder = workspace.root / "profiles"
    folder.mkdir(exist_ok=True)
    path = folder / f"{name}.yaml"
    path.write_text(text)
    return path


async def opened(app: SafedlApp, pilot: Pilot[None]) -> ProfilePane:
    await app.action_go("profile")
    await pilot.pause()
    pane = app.pane
    assert isinstance(pane, ProfilePane)
    return pane


async def at(pane: ProfilePane, pilot: Pilot[None], item: str) -> None:
    pane.picks("rail").focus()
    pane.picks("rail").point_at(item)
    await pilot.pause()
    await pilot.press("enter")
    await until(lambda: pane.frame.focused is not pane.picks("rail"))
    await pilot.pause()


async def test_seven_questions_make_a_profile_that_is_valid(workspace: Workspace) -> None:
    async with app_on(workspace) as (app, pilot):
        pane = await opened(app, pilot)
        await pilot.press("n")
        await until(lambda: isinstance(app.screen, FillIn))
        await pilot.press(*"a/b", "enter")
        assert "not allowed" in screen_text(app)
        await pilot.press("backspace", "backspace", *"2", "enter")
        await until(lambda: pane.new is not None)
        path = workspace.root / "profiles" / "a2.yaml"
        for number in range(len(ASKED)):
            assert not path.exists()
            assert pane.item == ASKED[number].id
            await pilot.press("space")
        await until(path.exists)
        profile = load(path)
        assert {q.id: profile.threat_model[q.id] for q in QUESTIONS} == {q.id: q.values[0] for q in QUESTIONS}
        assert profile.threat_model["threat_categories"][0] == "backdoor_attacks"
        assert {a.spec.name for a in profile.attacks} == {"static_patch", "learned_trigger"}
        assert not profile.missing
        assert pane.new is None and pane.draft.name == "a2"
        assert app.focused is pane.picks("threats")


async def test_a_profile_half_made_waits_for_the_next_start(workspace: Workspace) -> None:
    async with app_on(workspace) as (app, pilot):
        pane = await opened(app, pilot)
        await pilot.press("n")
        await until(lambda: isinstance(app.screen, FillIn))
        await pilot.press(*"half", "enter")
        await until(lambda: pane.new is not None)
        await pilot.press("j", "space")
        assert pane.new is not None and pane.new.answers == {"model_access": "gray-box"}
        app.memory.save()
    async with app_on(workspace) as (app, pilot):
        pane = await opened(app, pilot)
        assert pane.picks("saved").picks[0].text == "half"
        assert pane.status == "half is half answered, 7 questions open; o goes on with it"
        await until(lambda: len(app._notifications) == 1)
        await pilot.press("o", *"half", "enter")
        await until(lambda: pane.new is not None)
        assert pane.new is not None and pane.new.answers == {"model_access": "gray-box"}
        await opened(app, pilot)
        assert "o goes on" not in pane.status


async def test_the_last_line_names_only_keys_that_work_during_the_questions(workspace: Workspace) -> None:
    async with app_on(workspace) as (app, pilot):
        pane = await opened(app, pilot)
        pane.new = NewProfile("fresh")
        pane.paint()
        pane.action_enter_editor()
        await until(lambda: "u undo" not in screen_text(app) and "e editor" not in screen_text(app))
        await pilot.press("space", "j", "space")
        assert [*pane.new.answers] == ["model_access", "attack_goal"]
        await until(lambda: "u undo" in screen_text(app))
        await pilot.press("u")
        assert [*pane.new.answers] == ["model_access"] and pane.item == "attack_goal"
        await pilot.press("u")
        assert not pane.new.answers and pane.item == "model_access"
        await until(lambda: "u undo" not in screen_text(app))


async def test_an_answer_is_saved_and_threats_are_suggested_live(workspace: Workspace) -> None:
    path = own(workspace)
    async with app_on(workspace) as (app, pilot):
        pane = await opened(app, pilot)
        threats = {p.value: p for p in pane.picks("threats").picks}
        assert threats["backdoor_attacks"].note == "not suggested"
        await at(pane, pilot, "model_access")
        pane.picks("choices").point_at("white-box")
        await pilot.press("space")
        threats = {p.value: p for p in pane.picks("threats").picks}
        assert threats["backdoor_attacks"].note.startswith("suggested: model_access is white-box")
        assert load(path).threat_model["model_access"] == "white-box"
        assert "# mine" in path.read_text() and "# enough" in path.read_text()
        pane.picks("threats").focus()
        pane.picks("threats").point_at("backdoor_attacks")
        await pilot.press("space")
        assert {a.spec.name for a in load(path).attacks} == {"label_flipping", "static_patch", "learned_trigger"}
        await pilot.press("space")
        assert {a.spec.name for a in load(path).attacks} == {"label_flipping"}
        assert "backdoor" not in load(path).document["attack_overrides"]


async def test_enter_covers_a_threat_and_answers_no_question(workspace: Workspace) -> None:
    path = own(workspace)
    async with app_on(workspace) as (app, pilot):
        pane = await opened(app, pilot)
        for item in ("threats", "model_access"):
            pane.picks("rail").point_at(item)
            pane.picks("threats").focus()
            pane.picks("threats").point_at("model_stealing")
            await pilot.press("enter")
            await pilot.pause()
            profile = load(path)
            assert profile.threat_model["model_access"] == "black-box"
            assert ("model_stealing" in profile.threat_model["threat_categories"]) == (item == "threats")
        pane._tick("data_poisoning")
        assert load(path).threat_model["model_access"] == "black-box"


@pytest.mark.parametrize("name", ["rail", "choices", "threats"])
async def test_zoom_fills_the_pane_and_gives_it_back(workspace: Workspace, name: str) -> None:
    own(workspace)
    async with app_on(workspace) as (app, pilot):
        pane = await opened(app, pilot)
        box = next(node for node in pane.picks(name).ancestors if isinstance(node, Box))
        pane.picks(name).focus()
        await pilot.pause()
        before = [b.region for b in pane.query(Box)]
        await pilot.press("z")
        await until(lambda: box.region == pane.region)
        await pilot.press("z")
        await until(lambda: [b.region for b in pane.query(Box)] == before)


def right_of(app: SafedlApp) -> str:
    """The words at the right of an 80-column screen."""
    lines = screen_text(app).splitlines()
    return " ".join(" ".join(line[30:].translate(dict.fromkeys(map(ord, "│┃"), " ")) for line in lines).split())


async def test_every_answer_is_explained_in_full_from_the_first_on(workspace: Workspace) -> None:
    async with app_on(workspace) as (app, pilot):
        pane = await opened(app, pilot)
        pane.new = NewProfile("fresh")
        pane.paint()
        for question in ASKED:
            pane.picks("rail").point_at(question.id)
            pane.picks("rail").focus()
            await pilot.pause()
            for choice in question.choices:
                pane.picks("choices").point_at(choice.value)
                wanted = f"{choice.value}: {choice.help} Why we ask: {question.why}"
                await until(lambda wanted=wanted: wanted in right_of(app))  # type: ignore[misc]


async def test_a_threat_is_explained_in_full_while_the_cursor_stands_on_it(workspace: Workspace) -> None:
    own(workspace, PROFILE.replace("black-box", "white-box"))
    async with app_on(workspace) as (app, pilot):
        pane = await opened(app, pilot)
        before = pane.status
        pane.picks("threats").focus()
        for threat in CATEGORIES.values():
            pane.picks("threats").point_at(threat.name)
            note = pane.picks("threats").picks[pane.picks("threats").cursor].note
            await until(lambda t=threat, n=note: f"{t.help} {n}" in right_of(app))  # type: ignore[misc]
        assert "can plant a backdoor and tune its trigger" in str(pane.picks("threats").picks)
        assert pane.status == before


async def test_an_attack_and_a_parameter_are_explained_in_full(workspace: Workspace) -> None:
    own(workspace)
    async with app_on(workspace) as (app, pilot):
        pane = await opened(app, pilot)
        await at(pane, pilot, "attacks")
        for spec in ATTACKS.values():
            pane.picks("choices").point_at(spec.name)
            await until(lambda s=spec: f"{s.name}: {s.summary}" in right_of(app))  # type: ignore[misc]
        pane.picks("choices").point_at("label_flipping")
        await pilot.press("enter")
        form = pane.query_one(Form)
        await until(lambda: form.lines.has_focus)
        for place, field in enumerate(form.lines.fields):
            form.lines.cursor = place
            await until(lambda f=field: f.description in right_of(app))  # type: ignore[misc]


async def test_each_threshold_of_acceptance_says_what_it_means(workspace: Workspace) -> None:
    own(workspace)
    async with app_on(workspace) as (app, pilot):
        pane = await opened(app, pilot)
        await at(pane, pilot, "acceptance")
        for text in ("its best defense.", "may reach a backdoor's target", "may lose against", "classified right"):
            await until(lambda text=text: text in right_of(app))  # type: ignore[misc]
            await pilot.press("j")


async def test_a_wrong_value_shows_its_error_below_and_is_not_saved(workspace: Workspace) -> None:
    path = own(workspace)
    async with app_on(workspace) as (app, pilot):
        pane = await opened(app, pilot)
        await at(pane, pilot, "training")
        await pilot.press("enter", "ctrl+u", *"0", "enter")
        await until(lambda: "! 0 is not allowed" in screen_text(app))
        lines = screen_text(app).splitlines()
        field = next(i for i, line in enumerate(lines) if "epochs " in line and "from 1 to" in line)
        assert "! 0 is not allowed" in lines[field + 1]
        assert path.read_text() == PROFILE
        assert pane.status.startswith("not saved: training.epochs: 0 is not allowed")
        await pilot.press("enter", "ctrl+u", *"7", "enter")
        await until(lambda: path.read_text() != PROFILE)
        assert load(path).training.epochs == 7
        assert "epochs: 7  # enough" in path.read_text()
        assert path.with_name("mine.yaml.bak").read_text() == PROFILE
        await pilot.press("u")
        await pilot.pause()
        assert path.read_text() == PROFILE


async def test_leaving_a_field_leaves_its_value(workspace: Workspace) -> None:
    path = own(workspace)
    async with app_on(workspace) as (app, pilot):
        pane = await opened(app, pilot)
        await at(pane, pilot, "training")
        await pilot.press("enter", *"n3", "escape")
        assert path.read_text() == PROFILE and pane.new is None
        await pilot.press("j", "d")
        await until(lambda: path.read_text() != PROFILE)
        assert "batch_size" not in path.read_text() and load(path).training.batch_size == 64


async def test_model_and_recipe_follow_the_data_set(workspace: Workspace) -> None:
    path = own(workspace)
    async with app_on(workspace) as (app, pilot):
        pane = await opened(app, pilot)
        await at(pane, pilot, "dataset")
        await pilot.press("space")
        await until(lambda: path.read_text() != PROFILE)
        profile = load(path)
        assert profile.dataset is not None and profile.dataset.name == "mnist"
        assert profile.model is not None and profile.model.input_shape == (1, 28, 28)
        assert profile.training.epochs == 5


async def test_a_shipped_profile_is_copied_at_the_first_change(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("safedl.workspace.shipped_profiles", lambda: tmp_path / "shipped")
    (tmp_path / "shipped").mkdir()
    shipped = tmp_path / "shipped" / "digits.yaml"
    shipped.write_text(PROFILE.replace("name: mine", "name: digits"))
    before = shipped.read_text()
    async with app_on(workspace) as (app, pilot):
        pane = await opened(app, pilot)
        assert pane.draft.path == shipped
        pane.draft.change({("threat_model", "model_access"): "gray-box"})
        assert pane.draft.path == workspace.root / "profiles" / "digits.yaml"
        assert shipped.read_text() == before
        assert load(pane.draft.path).threat_model["model_access"] == "gray-box"


async def test_a_profile_broken_in_the_editor_is_shown_and_nothing_crashes(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = own(workspace)
    async with app_on(workspace) as (app, pilot):
        pane = await opened(app, pilot)
        path.write_text("name: [oops\n[/red] \x1b[31m")
        await opened(app, pilot)
        assert pane.draft.broken and "cannot be read" in screen_text(app)
        for key in ("enter", "l", "j", "u", "v", "escape", "3", "2", "1"):
            await pilot.press(key)
        path.write_text(PROFILE.replace("robust_loss", "robust_los"))
        await opened(app, pilot)
        assert not pane.draft.broken and "robust_los" in pane.status
        path.write_text(PROFILE)
        await opened(app, pilot)
        assert pane.status.startswith("valid")


async def test_a_change_from_elsewhere_is_not_overwritten(workspace: Workspace) -> None:
    path = own(workspace)
    async with app_on(workspace) as (app, pilot):
        pane = await opened(app, pilot)
        draft = pane.draft
        other = PROFILE.replace("epochs: 15", "epochs: 150")
        path.write_text(other)
        with pytest.raises(Exception, match="changed elsewhere"):
            draft.change({("training", "epochs"): 3})
        assert path.read_text() == other
        assert draft.document["training"]["epochs"] == 150


@pytest.mark.parametrize("size", SIZES)
async def test_screens(workspace: Workspace, size: tuple[int, int]) -> None:
    own(workspace)
    async with app_on(workspace, size) as (app, pilot):
        pane = await opened(app, pilot)
        await at(pane, pilot, "training_data_source")
        await pilot.pause()
        await golden(app, "profile_question")
        await at(pane, pilot, "training")
        await pilot.press("enter", "ctrl+u", *"0", "enter")
        await until(lambda: "! 0 is not allowed" in screen_text(app))
        await pilot.pause()
        await golden(app, "profile_error")


@pytest.mark.parametrize(
    "damage",
    ["attack_overrides: [static_patch]", "defense_config: 3", "threat_model: [a]", "dataset: digits", "training: x"],
)
async def test_a_section_that_is_none_is_shown_and_can_be_mended(workspace: Workspace, damage: str) -> None:
    key = damage.partition(":")[0]
    rest = [line for line in PROFILE.splitlines() if not line.startswith(" ") and not line.startswith(key)]
    own(workspace, "\n".join([*(line for line in rest if "{" in line or "name:" in line), damage]) + "\n")
    async with app_on(workspace) as (app, pilot):
        pane = await opened(app, pilot)
        await pilot.press("3")
        await pilot.pause()
        assert pane.draft.problems and key in pane.draft.problems[0].path
        for threat, covered in (("backdoor_attacks", True), ("backdoor_attacks", False)):
            pane.draft.change(cover(pane.draft.document, threat, covered=covered))


async def test_a_value_that_is_left_unfinished_goes_nowhere(workspace: Workspace) -> None:
    path = own(workspace)
    before = path.read_text()
    async with app_on(workspace) as (app, pilot):
        pane = await opened(app, pilot)
        await at(pane, pilot, "training")
        form = pane.query_one(Form)
        form.lines.focus()
        form._open_entry(next(f for f in form.lines.fields if f.name == "epochs"))
        await until(lambda: form.editing)
        await pilot.press("1")
        pane.picks("rail").focus()
        await until(lambda: not form.editing)
        form.post_message(Entry.Submitted(form.query_one(Entry), "151"))
        await pilot.pause()
        assert path.read_text() == before


async def test_an_editor_that_cannot_be_named_is_told(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    own(workspace)
    monkeypatch.setenv("VISUAL", "vi 'half a quote")
    async with app_on(workspace) as (app, pilot):
        await opened(app, pilot)
        await pilot.press("e")
        await until(lambda: "cannot start the editor" in screen_text(app))
