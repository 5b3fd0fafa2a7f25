from __future__ import annotations

import itertools
import os
from pathlib import Path
from typing import Any

import pytest

from safedl import catalog
from safedl.catalog.datasets import DATASETS
from safedl.catalog.defense_tags import recommended
from safedl.catalog.models import MODELS
from safedl.catalog.settings import DatasetSettings
from safedl.errors import UsageError
from safedl.profile.load import check
from safedl.threats import CATEGORIES, QUESTIONS, check_answers, not_simulated, suggest
from safedl.threats.build import MODEL_FOR, attack_entries, build_profile, explain

HARMLESS = {
    "model_access": "black-box",
    "attack_goal": "targeted",
    "deployment_scenario": "cloud",
    "data_sensitivity": "low",
    "training_data_source": "internal_clean",
    "model_type": "cnn",
    "interface_exposed": "none",
}

# The table of the specification: question, answer, suggested categories.
RULES = {
    ("training_data_source", "external_public"): {"data_poisoning"},
    ("training_data_source", "user_generated"): {"data_poisoning"},
    ("training_data_source", "mixed"): {"data_poisoning"},
    ("interface_exposed", "api"): {"model_stealing", "membership_inference"},
    ("deployment_scenario", "mobile"): {"evasion_attacks"},
    ("deployment_scenario", "edge"): {"evasion_attacks"},
    ("deployment_scenario", "api_public"): {"evasion_attacks"},
    ("model_access", "white-box"): {"backdoor_attacks"},
    ("data_sensitivity", "high"): {"model_inversion"},
}


def test_questions_are_those_of_the_specification() -> None:
    assert {q.id: set(q.values) for q in QUESTIONS} == {
        "model_access": {"white-box", "gray-box", "black-box"},
        "attack_goal": {"targeted", "untargeted"},
        "deployment_scenario": {"cloud", "edge", "mobile", "api_public", "on_device"},
        "data_sensitivity": {"high", "medium", "low"},
        "training_data_source": {"internal_clean", "external_public", "user_generated", "mixed"},
        "model_type": {"cnn", "transformer", "mlp", "other"},
        "interface_exposed": {"api", "local_app", "sdk", "none"},
    }
    assert all(q.text and q.why and all(c.help for c in q.choices) for q in QUESTIONS)


def test_each_answer_suggests_what_the_specification_says() -> None:
    for question in QUESTIONS:
        for value in question.values:
            found = {s.category for s in suggest({**HARMLESS, question.id: value})}
            assert found == RULES.get((question.id, value), set()), (question.id, value)


def test_any_answers_suggest_the_union_in_order_each_once_with_its_reason() -> None:
    for values in itertools.product(*(q.values for q in QUESTIONS)):
        answers = dict(zip((q.id for q in QUESTIONS), values, strict=True))
        found = suggest(answers)
        expected = set().union(*(RULES.get(answer, set()) for answer in answers.items()))
        assert [s.category for s in found] == [c for c in CATEGORIES if c in expected]
        assert all(s.reason.split(" is ")[1].split(":")[0] in values for s in found)


def test_check_answers_reports_every_mistake() -> None:
    with pytest.raises(UsageError) as caught:
        check_answers(
            {**HARMLESS, "model_access": "whitebox", "attack_goal": None, "interface_exposed": None}, "a.yaml"
        )
    first, second, third = str(caught.value).splitlines()
    assert first.startswith(
        "a.yaml: model_access: 'whitebox' is no answer; choose one of white-box, gray-box, black-box."
    )
    assert first.endswith("Did you mean 'white-box'?")
    assert second == "a.yaml: attack_goal: no answer; choose one of targeted, untargeted."
    assert third == "a.yaml: interface_exposed: no answer; choose one of api, local_app, sdk, none."
    assert check_answers({**HARMLESS, "extra": 1}, "a.yaml") == HARMLESS


@pytest.mark.parametrize("dataset", DATASETS)
@pytest.mark.parametrize("goal", ["targeted", "untargeted"])
def test_a_built_profile_is_complete(dataset: str, goal: str) -> None:
    answers = {**HARMLESS, "attack_goal": goal, "model_access": "white-box", "training_data_source": "mixed"}
    document = build_profile("p", answers, dataset)
    profile = check(document)
    assert profile.missing == profile.skipped == profile.notes == ()
    assert [a.spec.name for a in profile.attacks] == [
        "label_flipping", "clean_label", "static_patch", "learned_trigger",
    ]  # fmt: skip
    for attack in profile.attacks:
        assert {d.spec.name for d in attack.defenses} == {d.name for d in catalog.defenses_for(attack.spec.name)}
    patch = profile.attacks[2].params.model_dump()
    assert patch["patch_size_ratio"] * DATASETS[dataset].shape[1] >= 2
    assert profile.training.model_dump(mode="json") == document["training"]


def test_model_follows_the_answer() -> None:
    assert {q.id: q for q in QUESTIONS}["model_type"].values == tuple(MODEL_FOR)
    assert set(MODEL_FOR.values()) <= set(MODELS)
    document = build_profile("p", {**HARMLESS, "model_type": "transformer"}, "cifar10")
    assert document["model"] == {"name": "vit", "type": "builtin", "input_shape": [3, 32, 32], "num_classes": 10}


def test_threats_without_a_simulation_are_recorded() -> None:
    answers = {**HARMLESS, "interface_exposed": "api", "training_data_source": "mixed"}
    document = build_profile("p", answers)
    without = [c for c in ("model_stealing", "membership_inference") if not CATEGORIES[c].simulated]
    assert document["threat_model"]["not_simulated"] == without
    assert list(not_simulated(document["threat_model"]["threat_categories"])) == without
    assert len(check(document).skipped) == len(without)


def test_the_user_may_change_every_suggestion() -> None:
    answers = {**HARMLESS, "training_data_source": "mixed"}
    document = build_profile("p", answers, categories=["backdoor_attacks"])
    assert list(document["attack_overrides"]) == ["backdoor"]
    assert explain(answers, ["backdoor_attacks"]) == [
        "data_poisoning: left out by choice, although training_data_source is mixed: "
        "others can put images or labels into the training data",
        "backdoor_attacks: your choice",
    ]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dataset": "digit"}, "no data set 'digit': neither a path nor one of digits.* Did you mean 'digits'"),
        ({"model": "cnnn"}, "no model 'cnnn'.*Did you mean 'cnn'"),
        ({"categories": ["backdoor"]}, "unknown threat category 'backdoor'.*Did you mean 'backdoor_attacks'"),
    ],
)
def test_unknown_names_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        build_profile("p", HARMLESS, **change)


def test_data_in_the_current_folder_is_called_after_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "photos").mkdir()
    monkeypatch.chdir(tmp_path / "photos")
    assert build_profile("p", HARMLESS, ".")["dataset"] == {"name": "photos", "type": "custom", "path": "."}


@pytest.mark.parametrize("option", ["dataset", "model"])
def test_paths_that_are_no_text_are_refused(tmp_path: Path, option: str) -> None:
    path = os.fsdecode(bytes(tmp_path) + b"/own\xff.py")
    Path(path).touch()
    with pytest.raises(UsageError, match=r"own\\udcff\.py' holds bytes that are no UTF-8"):
        build_profile("p", HARMLESS, **{option: path})


def test_recommended_defenses_are_exactly_those_that_apply() -> None:
    for attack in catalog.ATTACKS:
        tags = recommended(attack)
        assert sorted(t.defense for t in tags) == sorted(d.name for d in catalog.defenses_for(attack))
        assert all(t.reason for t in tags)


@pytest.mark.parametrize("attack", catalog.ATTACKS)
@pytest.mark.parametrize("dataset", ["digits", "cifar10"])
def test_every_attack_has_entries_that_a_profile_takes(attack: str, dataset: str) -> None:
    entries = attack_entries(attack, HARMLESS, DatasetSettings(name=dataset))
    document = build_profile("x", HARMLESS, dataset, "cnn", [])
    for section, entry in entries.items():
        document[section] = {catalog.ATTACKS[attack].category: {attack: entry}}
    (choice,) = check(document).attacks
    assert choice.spec.name == attack
    assert {d.spec.name for d in choice.defenses} == {d.name for d in catalog.defenses_for(attack)}


def test_a_category_without_any_attack_is_said_not_to_be_simulated() -> None:
    profile = check({"name": "x", "threat_model": {"threat_categories": ["privacy", "evasion"]}})
    assert profile.skipped == ("threat privacy: not simulated; to be checked by hand",)
