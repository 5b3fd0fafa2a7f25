from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from typer.testing import CliRunner, Result

from safedl.catalog import ATTACKS, DEFENSES
from safedl.catalog.datasets import DATASETS
from safedl.catalog.models import MODELS
from safedl.cli import listing, profile
from safedl.errors import NotFoundError, SafedlError, UsageError
from safedl.profile.document import read
from safedl.profile.load import load
from safedl.workspace import Workspace

PUBLISHED = Path(__file__).parent.parent / "data_profiles"
ANSWERS = {
    "model_access": "white-box",
    "attack_goal": "targeted",
    "deployment_scenario": "cloud",
    "data_sensitivity": "low",
    "training_data_source": "mixed",
    "model_type": "cnn",
    "interface_exposed": "api",
}


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace.open(tmp_path)


def call(app: typer.Typer, workspace: Workspace, *arguments: str, input: str | None = None) -> Result:
    result = CliRunner().invoke(app, [*arguments], obj=workspace, input=input)
    if isinstance(result.exception, SafedlError):
        raise result.exception
    return result


def test_check_says_what_is_there(workspace: Workspace) -> None:
    result = call(profile.app, workspace, "check", "digits")
    assert result.exit_code == 0
    assert "valid; attacks: 4, defenses: 20" in result.stdout


def test_check_notes_files_that_are_not_here(workspace: Workspace) -> None:
    (workspace.root / "profiles").mkdir()
    (workspace.root / "own.npz").touch()
    named = workspace.root / "profiles" / "own.yaml"
    named.write_text(
        "dataset: {path: own.npz}\nmodel: {path: ../nte.py, weights: first.pt}\nscan: {trusted: ../own.npz}\n"
    )
    result = call(profile.app, workspace, "check", "own")
    assert result.exit_code == 0, "it may run on another machine"
    told = ["model.path: no such file here: ../nte.py", "model.weights: no such file here: first.pt"]
    assert [line for line in result.stderr.splitlines() if "no such file" in line] == told
    assert json.loads(call(profile.app, workspace, "check", "own", "--json").stdout)["notes"] == told


@pytest.mark.parametrize("name", ["~nobody-of-this-name/own.npz", f"{'a' * 300}.npz"])
def test_check_notes_files_that_cannot_be_here(workspace: Workspace, name: str) -> None:
    (workspace.root / "profiles").mkdir()
    (workspace.root / "profiles" / "own.yaml").write_text(f"dataset: {{path: {name}}}\nmodel: {{name: cnn}}\n")
    result = call(profile.app, workspace, "check", "own")
    assert result.exit_code == 0, "it may run on another machine"
    assert f"dataset.path: no such file here: {name}" in "".join(result.stderr.splitlines())


def test_check_notes_what_is_missing(workspace: Workspace) -> None:
    result = call(profile.app, workspace, "check", str(PUBLISHED / "threat_model_only.yaml"))
    assert result.exit_code == 0
    assert "dataset: which images" in result.stderr and "model: which classifier" in result.stderr
    facts = json.loads(
        call(profile.app, workspace, "check", str(PUBLISHED / "threat_model_only.yaml"), "--json").stdout
    )
    assert (facts["valid"], facts["runnable"], len(facts["missing"])) == (True, False, 3)


def test_check_refuses_with_the_problems_as_json(workspace: Workspace, tmp_path: Path) -> None:
    bad = tmp_path / "bad.yaml"
    bad.write_text("name: bad\nmodel: {name: cnn, num_classes: 1}\n")
    with pytest.raises(UsageError, match=r"bad\.yaml: model\.num_classes: 1 is not allowed"):
        call(profile.app, workspace, "check", str(bad))
    result = CliRunner().invoke(profile.app, ["check", str(bad), "--json"], obj=workspace)
    assert isinstance(result.exception, UsageError)
    assert [p["path"] for p in json.loads(result.stdout)["problems"]] == ["model.num_classes"]


def test_check_of_an_unknown_profile_names_the_nearest(workspace: Workspace) -> None:
    with pytest.raises(NotFoundError, match="Did you mean 'digits'"):
        call(profile.app, workspace, "check", "digit")


def test_show_prints_a_profile_with_every_parameter(workspace: Workspace, tmp_path: Path) -> None:
    shown = tmp_path / "shown.yaml"
    shown.write_text(call(profile.app, workspace, "show", "digits").stdout)
    original = load(workspace.find_profile("digits"))
    assert load(shown).attacks == original.attacks
    assert "blend_alpha: 1.0" in shown.read_text()
    document = json.loads(call(profile.app, workspace, "show", "digits", "--json").stdout)
    assert document["attack_overrides"]["backdoor"]["static_patch"]["blend_alpha"] == 1.0


def test_new_writes_a_profile_that_runs(workspace: Workspace, tmp_path: Path) -> None:
    answers = tmp_path / "answers.yaml"
    answers.write_text(yaml.safe_dump(ANSWERS))
    result = call(profile.app, workspace, "new", "camera", "--answers", str(answers), "--dataset", "gtsrb")
    path = workspace.root / "profiles" / "camera.yaml"
    assert result.stdout.split() == [str(path)]
    assert "model_stealing: interface_exposed is api" in result.stderr
    written = load(path)
    assert written.missing == () and written.dataset and written.dataset.name == "gtsrb"
    assert {a.spec.category for a in written.attacks} == {"data_poisoning", "backdoor"}
    assert path.read_text().startswith("# Written by `safedl profile new`. Threats:\n#   data_poisoning: ")


def test_new_replaces_only_when_told(workspace: Workspace, tmp_path: Path) -> None:
    answers = tmp_path / "answers.yaml"
    answers.write_text(yaml.safe_dump({"threat_model": {**ANSWERS, "threat_categories": ["backdoor_attacks"]}}))
    command = ("new", "camera", "--answers", str(answers))
    call(profile.app, workspace, *command)
    with pytest.raises(UsageError, match="--force"):
        call(profile.app, workspace, *command, "--model", "mlp")
    path = workspace.root / "profiles" / "camera.yaml"
    assert read(path.read_text(), "p")["model"]["name"] == "cnn"
    call(profile.app, workspace, *command, "--model", "mlp", "--force")
    document = read(path.read_text(), "p")
    assert document["model"]["name"] == "mlp"
    assert list(document["attack_overrides"]) == ["backdoor"]


def test_new_takes_data_of_ones_own(workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = tmp_path / "answers.yaml"
    answers.write_text(yaml.safe_dump(ANSWERS))
    (tmp_path / "photos").mkdir()
    monkeypatch.chdir(tmp_path)
    call(profile.app, workspace, "new", "mine", "--answers", str(answers), "--dataset", "photos")
    dataset = load(workspace.root / "profiles" / "mine.yaml").dataset
    assert dataset and (dataset.name, dataset.type, dataset.path) == ("photos", "custom", str(tmp_path / "photos"))


@pytest.mark.parametrize(
    ("arguments", "content", "message"),
    [
        ((), None, "no terminal; give --answers"),
        (("--answers", "a.yaml"), {**ANSWERS, "model_access": "whitebox"}, "Did you mean 'white-box'"),
        (("--answers", "a.yaml"), {**ANSWERS, "threat_categories": "all"}, "must be a list"),
        (("--answers", "a.yaml"), {**ANSWERS, "threat_categories": ["virus"]}, "unknown threat category 'virus'"),
        (("--answers", "a.yaml", "--dataset", "digit"), ANSWERS, "Did you mean 'digits'"),
    ],
)
def test_new_writes_nothing_after_a_mistake(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...],
    content: dict[str, Any] | None, message: str,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.yaml").write_text(yaml.safe_dump(content))
    with pytest.raises(UsageError, match=message):
        call(profile.app, workspace, "new", "camera", *arguments)
    assert not (workspace.root / "profiles").exists()


def test_new_refuses_names_that_are_paths(workspace: Workspace) -> None:
    with pytest.raises(UsageError, match=r"NAME: '\.\./x' is not allowed"):
        call(profile.app, workspace, "new", "../x")


def test_new_asks_on_a_terminal(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(profile, "_on_terminal", lambda: True)
    # numbers and names, nothing at all, one answer that is none, and one category taken out of the suggestions
    replies = [
        "1",
        "targeted",
        "",
        "nonsense",
        "4",
        "3",
        "external_public",
        "1",
        "1",
        "data_poisoning, backdoor_attacks",
    ]
    result = call(profile.app, workspace, "new", "asked", input="\n".join(replies) + "\n")
    assert result.exit_code == 0, result.output
    written = load(workspace.root / "profiles" / "asked.yaml")
    assert written.threat_model["deployment_scenario"] == "api_public"
    assert written.threat_model["threat_categories"] == ["data_poisoning", "backdoor_attacks"]
    assert result.stderr.count("choose a number from 1 to 5") == 2
    assert result.stderr.count("an answer is needed: choose a number from 1 to 5") == 1
    assert "evasion_attacks: left out by choice" in result.stderr


def test_new_asks_again_for_threats_that_there_are_not(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(profile, "_on_terminal", lambda: True)
    replies = ["1", "1", "1", "3", "1", "1", "4", "backdor_attacks, evasion_attacks", "backdoor_attacks"]
    result = call(profile.app, workspace, "new", "asked", input="\n".join(replies) + "\n")
    assert result.exit_code == 0, result.output
    assert "there is no threat 'backdor_attacks'. Did you mean 'backdoor_attacks'?" in result.stderr
    written = load(workspace.root / "profiles" / "asked.yaml")
    assert written.threat_model["threat_categories"] == ["backdoor_attacks"]


@pytest.mark.parametrize("option", ["--dataset", "--model"])
def test_new_refuses_names_before_it_asks(workspace: Workspace, monkeypatch: pytest.MonkeyPatch, option: str) -> None:
    monkeypatch.setattr(profile, "_on_terminal", lambda: True)
    monkeypatch.setattr(profile, "_ask", lambda: pytest.fail("asked seven questions first"))
    with pytest.raises(UsageError, match="neither a"):
        call(profile.app, workspace, "new", "camera", option, "nosuch")


@pytest.mark.parametrize(
    ("what", "key", "names"),
    [
        ("attacks", "attack", ATTACKS), ("defenses", "defense", DEFENSES),
        ("datasets", "dataset", DATASETS), ("models", "model", MODELS),
    ],
)  # fmt: skip
def test_list_shows_everything(workspace: Workspace, what: str, key: str, names: dict[str, object]) -> None:
    rows = json.loads(call(listing.app, workspace, what, "--json").stdout)
    assert [row[key] for row in rows] == list(names)
    table = call(listing.app, workspace, what).stdout
    assert all(name in table for name in names)


def test_list_describes_each_parameter(workspace: Workspace) -> None:
    rows = [
        row for what in ("attacks", "defenses", "models")
        for row in json.loads(call(listing.app, workspace, what, "--json").stdout)
    ]  # fmt: skip
    parameters = [p for row in rows for p in row["parameters"]]
    assert len(parameters) > 40
    assert all(p["description"] and p["type"] for p in parameters)


def test_commands_load_no_torch() -> None:
    code = (
        "import sys; from safedl.cli import listing, profile; from safedl.workspace import Workspace; "
        "from typer.testing import CliRunner; from pathlib import Path; "
        "w = Workspace.open(Path('.')); r = CliRunner(); "
        "codes = [r.invoke(profile.app, [c, 'digits'], obj=w).exit_code for c in ('check', 'show')]; "
        "codes += [r.invoke(listing.app, [c], obj=w).exit_code for c in ('attacks', 'defenses', 'models')]; "
        "sys.exit(any(codes) or any(m in sys.modules for m in ('torch', 'sklearn', 'sqlalchemy')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
