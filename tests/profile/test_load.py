from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from safedl.catalog.recipes import recipe_for
from safedl.catalog.settings import DatasetSettings
from safedl.errors import NotFoundError, UsageError
from safedl.profile.load import check, load, parse
from safedl.profile.problems import ProfileError
from safedl.risk.assess import probability
from tests.profile.conftest import PUBLISHED, SHIPPED

STATIC = ("attack_overrides", "backdoor", "static_patch")
DEFENSES = ("defense_config", "backdoor", "static_patch")

# id: key path to set, value, and how the one line of the error begins (without the file's name)
WRONG: dict[str, tuple[tuple[str, ...], Any, str]] = {
    "attack misspelt": (
        ("attack_overrides", "backdoor", "static_pach"), {},
        "attack_overrides.backdoor.static_pach: unknown attack 'static_pach'. Did you mean 'static_patch'? Known: ",
    ),
    "defense misspelt": (
        (*DEFENSES, "prunning"), {},
        "defense_config.backdoor.static_patch.prunning: unknown defense 'prunning'. Did you mean 'pruning'? Known: ",
    ),
    "defense misspelt in the list": (
        ("defense_config", "data_poisoning", "label_flipping", "defenses"), ["robust_los"],
        "defense_config.data_poisoning.label_flipping.defenses[0]: unknown defense 'robust_los'. "
        "Did you mean 'robust_loss'? Known: ",
    ),
    "list of defenses is no list": (
        (*DEFENSES, "defenses"), "pruning",
        "defense_config.backdoor.static_patch.defenses: 'pruning' is not allowed; it must be a list of names",
    ),
    "category misspelt": (
        ("attack_overrides", "backdor"), {},
        "attack_overrides.backdor: unknown category 'backdor'. Did you mean 'backdoor'? Known: data_poisoning, ",
    ),
    "attack of another category": (
        ("attack_overrides", "data_poisoning", "learned_trigger"), {},
        "attack_overrides.data_poisoning.learned_trigger: learned_trigger is no attack of data_poisoning; "
        "it belongs under backdoor",
    ),
    "attack under both spellings": (
        ("attack_overrides", "backdoor_attacks"), {"static_patch": {}},
        "attack_overrides.backdoor_attacks.static_patch: static_patch stands there twice, "
        "also as attack_overrides.backdoor.static_patch",
    ),
    "parameter misspelt": (
        (*STATIC, "target_clas"), 1,
        "attack_overrides.backdoor.static_patch.target_clas: unknown parameter of static_patch. "
        "Did you mean 'target_class'? Known: patch_type, ",
    ),
    "parameter of another attack": (
        (*STATIC, "flip_rate"), 0.1,
        "attack_overrides.backdoor.static_patch.flip_rate: unknown parameter of static_patch (label_flipping has it). ",
    ),
    "parameter of another defense": (
        (*DEFENSES, "pruning", "num_clusters"), 2,
        "defense_config.backdoor.static_patch.pruning.num_clusters: unknown parameter of pruning "
        "(activation_clustering has it). ",
    ),
    "key of another section": (
        ("model", "epochs"), 3, "model.epochs: unknown key of model (training has it). Known: name, type, ",
    ),
    "ratio of 1.5": (
        (*DEFENSES, "pruning", "pruning_ratio"), 1.5,
        "defense_config.backdoor.static_patch.pruning.pruning_ratio: 1.5 is not allowed; it must be a number ",
    ),
    "not a number": (
        (*STATIC, "poison_fraction"), "much",
        "attack_overrides.backdoor.static_patch.poison_fraction: 'much' is not allowed; it must be a number from",
    ),
    "true for a number": (
        ("training", "epochs"), True, "training.epochs: true is not allowed; it must be a whole number from 1 to 10000",
    ),
    "infinite": (
        ("training", "learning_rate"), float("inf"),
        "training.learning_rate: inf is not allowed; it must be a finite number",
    ),
    "no choice": (
        (*STATIC, "patch_position"), "bottom_righ",
        "attack_overrides.backdoor.static_patch.patch_position: 'bottom_righ' is not allowed; it must be one of "
        "bottom_right, bottom_left, top_right, top_left, center. Did you mean 'bottom_right'?",
    ),
    "target class 99": (
        (*STATIC, "target_class"), 99,
        "attack_overrides.backdoor.static_patch.target_class: 99 is not allowed; class index out of range: "
        "allowed are 0 to 9",
    ),
    "unknown layer": (
        (*DEFENSES, "model_inspection", "layers"), ["conv.0", "conv.9.weight"],
        "defense_config.backdoor.static_patch.model_inspection.layers[1]: 'conv.9.weight' is not allowed; "
        "model 'cnn' has no layer 'conv.9.weight'.",
    ),
    "defense against another attack": (
        (*DEFENSES, "data_cleaning"), {},
        "defense_config.backdoor.static_patch.data_cleaning: does not apply to static_patch; defenses that do: ",
    ),
    "three channels": (
        ("model", "input_shape"), [3, 8, 8],
        "model.input_shape: [3, 8, 8] announced, but data set 'digits' has [1, 8, 8] (channels, height, width)",
    ),
    "shape too short": (
        ("model", "input_shape"), [8, 8],
        "model.input_shape: [8, 8] is not allowed; it must be a list (Channels, height, width; else the data's)",
    ),
    "side of no pixel": (
        ("model", "input_shape"), [1, 0, 8],
        "model.input_shape[1]: 0 is not allowed; it should be greater than or equal to 1",
    ),
    "empty path": (
        ("dataset", "path"), "",
        "dataset.path: '' is not allowed; it must be text (An image folder, an .npz or .parquet file, or a module)",
    ),
    "source is target": (
        ("attack_overrides", "data_poisoning", "label_flipping"),
        {"strategy": "one_to_one", "source_class": 1, "target_class": 1},
        "attack_overrides.data_poisoning.label_flipping.target_class: 1 is not allowed; "
        "1 is the source class too; name two different classes",
    ),
    "number of classes": (
        ("model", "num_classes"), 5, "model.num_classes: 5 announced, but data set 'digits' has 10",
    ),
    "model parameter": (
        ("model", "params"), {"conv_filter": 3},
        "model.params.conv_filter: unknown parameter of cnn. Did you mean 'conv_filters'? ",
    ),
    "data set": (("dataset", "name"), "digit", "dataset.name: unknown data set 'digit'. Did you mean 'digits'? "),
    "model": (("model", "name"), "cnnn", "model.name: unknown model 'cnnn'. Did you mean 'cnn'? "),
    "section is no mapping": (
        ("training",), 3, "training: 3 is not allowed; it must be a mapping (key: value)",
    ),
    "attacks are a list": (
        ("attack_overrides",), ["static_patch"],
        "attack_overrides: ['static_patch'] is not allowed; it must be a mapping (key: value)",
    ),
    "name with a path": (("name",), "../x", "name: '../x' is not allowed; it becomes a file name"),
    "name with a control character": (("name",), "a\x1b[2J", "name: 'a\\x1b[2J' is not allowed"),
    "name is a number": (("name",), 7, "name: 7 is not text; put it in quotes"),
    "empty name": (("name",), " ", "name: it is empty"),
    "evasion defense against a backdoor": (
        (*DEFENSES, "jpeg_preprocessing"), {},
        "defense_config.backdoor.static_patch.jpeg_preprocessing: does not apply to static_patch; ",
    ),
}  # fmt: skip


def changed(document: dict[str, Any], path: tuple[str, ...], value: Any) -> dict[str, Any]:
    inner = document
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    return document


@pytest.mark.parametrize(("path", "value", "message"), WRONG.values(), ids=WRONG)
def test_one_line_for_one_mistake(valid: dict[str, Any], path: tuple[str, ...], value: Any, message: str) -> None:
    with pytest.raises(ProfileError) as caught:
        check(changed(valid, path, value), Path("p.yaml"))
    assert str(caught.value).startswith(f"p.yaml: {message}")
    assert len(caught.value.problems) == 1
    assert caught.value.exit_code == 2


def test_values_of_an_image_are_checked_before_any_data_is_read(valid: dict[str, Any]) -> None:
    with pytest.raises(ProfileError, match=r"model\.params\.input_size: 100 announced, .* 'digits' have 64 values"):
        check({**valid, "model": {"name": "mlp", "params": {"input_size": 100}}})


@pytest.mark.parametrize(
    ("defense", "params", "works"),
    [
        ("pruning", "", False), ("pruning", "criterion: dormant", True), ("pruning", "variant: literal", True),
        ("model_inspection", "", False), ("model_inspection", "variant: literal", True),
    ],
)  # fmt: skip
def test_two_classes_are_too_few_for_what_compares_their_triggers(defense: str, params: str, works: bool) -> None:
    text = (
        "{name: two, dataset: {path: data.npz}, model: {name: cnn, num_classes: 2}, "
        f"defense_config: {{backdoor: {{static_patch: {{{defense}: {{{params}}}}}}}}}}}"
    )
    if works:
        assert parse(text).attacks[0].defenses[0].spec.name == defense
        return
    with pytest.raises(ProfileError, match=f"{defense}.variant: .* needs 3 classes or more.*; choose"):
        parse(text)


def test_all_mistakes_are_reported_together(valid: dict[str, Any]) -> None:
    changed(valid, (*STATIC, "target_class"), 99)
    changed(valid, ("training", "epochs"), 0)
    with pytest.raises(ProfileError) as caught:
        check(valid, Path("p.yaml"))
    assert [p.path for p in caught.value.problems] == [
        "training.epochs",
        "attack_overrides.backdoor.static_patch.target_class",
    ]
    assert len(str(caught.value).splitlines()) == 2


def test_old_parameter_names_stand_in_the_error(valid: dict[str, Any]) -> None:
    changed(valid, ("attack_overrides", "backdoor", "learned"), {"epochs": 0})
    with pytest.raises(ProfileError, match=r"attack_overrides\.backdoor\.learned\.epochs: 0 is not allowed"):
        check(valid)
    changed(valid, ("attack_overrides", "backdoor", "learned"), {"epochs": 3, "epochs_trigger": 3})
    with pytest.raises(ProfileError, match=r"learned\.epochs: an older name of epochs_trigger"):
        check(valid)


def test_valid_profile(valid: dict[str, Any]) -> None:
    profile = check(valid)
    assert [a.spec.name for a in profile.attacks] == ["label_flipping", "static_patch"]
    flipping, patch = profile.attacks
    assert flipping.params.model_dump()["strategy"] == "fully_random"
    assert [d.spec.name for d in flipping.defenses] == ["data_cleaning", "robust_loss"]
    assert [d.spec.name for d in patch.defenses] == ["activation_clustering", "pruning", "model_inspection"]
    assert profile.training == recipe_for(DatasetSettings(name="digits")).model_copy(update={"epochs": 3})
    assert profile.missing == profile.skipped == profile.notes == ()


def test_a_list_of_defenses_decides_what_runs(valid: dict[str, Any]) -> None:
    valid["defense_config"]["backdoor"]["static_patch"]["defenses"] = ["pruning"]
    patch = check(valid).attacks[1]
    assert [(d.spec.name, d.params.model_dump()["pruning_ratio"]) for d in patch.defenses] == [("pruning", 0.2)]


def test_an_attack_that_only_has_defenses_runs_with_defaults(valid: dict[str, Any]) -> None:
    del valid["attack_overrides"]["backdoor"]
    patch = check(valid).attacks[1]
    assert patch.params == patch.spec.params()
    assert len(patch.defenses) == 3


def test_unknown_sections_are_kept_and_near_misses_noted(valid: dict[str, Any]) -> None:
    profile = check({**valid, "company": {"owner": "x"}, "defence_config": {}})
    assert profile.document["company"] == {"owner": "x"}
    assert profile.notes == ("section 'defence_config' is kept, but not used. Did you mean 'defense_config'?",)


def test_odd_threat_answers_are_noted(valid: dict[str, Any]) -> None:
    valid["threat_model"] = {"model_access": "whitebox", "threat_categories": ["backdoors", "model_stealing"]}
    profile = check(valid)
    assert profile.notes[0].startswith("threat_model.model_access: 'whitebox' is not used; it is none of white-box,")
    assert profile.notes[1].startswith("threat_model.threat_categories: 'backdoors' is not used")
    assert profile.skipped == ("threat model_stealing: not simulated; to be checked by hand",)


def test_access_spelled_with_an_underscore_is_understood() -> None:
    """The risk goes by it, so it must not be said to be passed over."""
    assert parse("name: x\nthreat_model: {model_access: black_box}").notes == ()
    assert probability("evasion", {"model_access": "black_box"})[0] == 0.8


@pytest.mark.parametrize(
    "categories", ["evasion_attacks", {"evasion_attacks": 1}, ["Evasion attacks"], ["backdoor_atacks"]]
)
def test_threats_that_cannot_be_read_are_refused(valid: dict[str, Any], categories: object) -> None:
    """They decide whether the model may ship."""
    valid["threat_model"] = {"threat_categories": categories}
    with pytest.raises(ProfileError, match=r"threat_model\.threat_categories"):
        check(valid)


def test_names_of_the_framework_without_a_simulation_are_skipped(valid: dict[str, Any]) -> None:
    before = check(valid).attacks
    valid["attack_overrides"]["privacy"] = {"membership_inference": {"shadow_models": 4}, "model_extraction": {}}
    valid["defense_config"]["privacy"] = {"model_extraction": {"defenses": ["strip"]}}
    valid["defense_config"]["backdoor"]["static_patch"]["strip"] = {"samples": 100}
    profile = check(valid)
    assert profile.attacks == before
    assert profile.skipped == (
        "attack membership_inference: not simulated; to be checked by hand",
        "attack model_extraction: not simulated; to be checked by hand",
        "defense strip against static_patch: not available yet",
    )
    valid["attack_overrides"]["backdoor"]["membership_inference"] = {}
    with pytest.raises(ProfileError, match="unknown attack 'membership_inference'"):
        check(valid)


def test_classes_of_own_data_come_from_the_model(valid: dict[str, Any]) -> None:
    valid["dataset"] = {"name": "mine", "type": "custom", "path": "images"}
    valid["model"] = {"name": "cnn", "num_classes": 3}
    changed(valid, (*STATIC, "target_class"), 3)
    with pytest.raises(ProfileError, match="allowed are 0 to 2"):
        check(valid)
    valid["model"] = {"name": "user_model.py", "type": "custom"}
    assert check(valid).attacks[1].params.model_dump()["target_class"] == 3  # only the data can tell


def test_traffic_signs_may_be_resized_but_not_recoloured(valid: dict[str, Any]) -> None:
    valid |= {"dataset": {"name": "gtsrb"}, "model": {"name": "cnn", "input_shape": [3, 48, 48]}}
    check(valid)
    valid["model"] = {"name": "cnn", "input_shape": [1, 32, 32]}
    with pytest.raises(ProfileError, match="3, 32, 32"):
        check(valid)


def test_an_own_model_is_called_after_its_file_unless_it_has_a_name(valid: dict[str, Any]) -> None:
    for model, name in (({"path": "my/net.py"}, "net"), ({"path": "net.py", "name": "cnn"}, "cnn"), ({}, "cnn")):
        settings = check(valid | {"model": model}).model
        assert settings is not None and settings.name == name
        assert settings.own == model.get("path")


def test_data_in_the_folder_itself_has_a_name(valid: dict[str, Any]) -> None:
    profile = check({**valid, "dataset": {"path": "."}})
    assert profile.dataset is not None and profile.dataset.name == "unnamed"


def test_full_published_profile_loads() -> None:
    profile = load(PUBLISHED / "full.yaml")
    names = {a.spec.name: [d.spec.name for d in a.defenses] for a in profile.attacks}
    assert names["label_flipping"] == ["data_cleaning", "per_class_monitoring", "robust_loss", "dp_training"]
    assert names["static_patch"] == ["anomaly_detection", "fine_pruning", "spectral_signatures"]
    dp = next(d for a in profile.attacks for d in a.defenses if d.spec.name == "dp_training")
    assert dp.params.model_dump()["delta"] == 1e-5
    inspection = next(d for a in profile.attacks for d in a.defenses if d.spec.name == "model_inspection")
    assert inspection.params.model_dump()["layers"] == ("conv.0", "fc.1")
    assert profile.risk_analysis["summary"]["static_patch"]["risk_score"] == 1.71
    assert profile.missing == profile.notes == ()
    assert names["pgd"] == ["adversarial_training", "randomized_smoothing"]
    assert names["spsa"] == ["gradient_masking", "jpeg_preprocessing"]
    assert not [line for line in profile.skipped if line.startswith("attack ")]


def test_early_published_profile_loads() -> None:
    profile = load(PUBLISHED / "early.yaml")
    learned = next(a for a in profile.attacks if a.spec.name == "learned_trigger")
    params = learned.params.model_dump()
    assert (params["epochs_trigger"], params["learning_rate_trigger"], params["patch_size_ratio"]) == (30, 0.1, 0.2)
    assert profile.missing == profile.notes == ()


def test_threat_model_only_loads_and_says_what_is_missing() -> None:
    profile = load(PUBLISHED / "threat_model_only.yaml")
    assert [line.split(":")[0] for line in profile.missing] == ["dataset", "model", "attack_overrides"]
    assert profile.attacks == ()


@pytest.mark.parametrize("path", sorted(SHIPPED.glob("*.yaml")), ids=lambda p: p.stem)
def test_shipped_profiles_are_complete(path: Path) -> None:
    profile = load(path)
    assert profile.name == path.stem
    assert profile.missing == profile.notes == ()
    assert profile.attacks and all(a.defenses for a in profile.attacks)


def test_demo_has_every_attack_and_defense_of_module_4() -> None:
    profile = load(SHIPPED / "digits.yaml")
    assert {a.spec.name for a in profile.attacks} == {
        "label_flipping", "clean_label", "static_patch", "learned_trigger",
    }  # fmt: skip
    assert {d.spec.name for a in profile.attacks for d in a.defenses} == {
        "data_cleaning", "per_class_monitoring", "robust_loss", "dp_training", "provenance_tracking",
        "influence_functions", "activation_clustering", "spectral_signatures", "anomaly_detection", "pruning",
        "fine_pruning", "model_inspection",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("write", "error", "message"),
    [
        (lambda p: None, NotFoundError, "no such file"),
        (lambda p: p.write_bytes(b"name: \xff\xfe"), UsageError, "UTF-8"),
        (lambda p: p.mkdir(), UsageError, "cannot be read"),
    ],
    ids=["missing", "not UTF-8", "a folder"],
)
def test_unreadable_files(
    tmp_path: Path, write: Callable[[Path], object], error: type[Exception], message: str
) -> None:
    path = tmp_path / "p.yaml"
    write(path)
    with pytest.raises(error, match=message):
        load(path)


def test_the_file_names_a_profile_without_a_name(tmp_path: Path) -> None:
    assert parse("threat_model: {}", tmp_path / "camera.yaml").name == "camera"
    with pytest.raises(ProfileError, match="name"):
        parse("threat_model: {}")


def test_checking_loads_no_torch() -> None:
    code = (
        "import sys; from pathlib import Path; from safedl.profile.load import load; "
        f"load(Path({str(PUBLISHED / 'full.yaml')!r})); "
        "sys.exit(any(m in sys.modules for m in ('torch', 'sklearn', 'numpy', 'sqlalchemy')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
