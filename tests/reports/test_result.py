"""Result documents have the keys that are published, with the right values."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from safedl.reports.outcome import Outcome, Pictures
from safedl.reports.result import build, example_key, own_params, with_folders
from tests.reports import samples

TWO = Pictures(("examples/01_sample_1.png", "examples/02_sample_3.png"))
SHARED = {
    "uid", "kind", "dataset", "model", "seed", "layer", "metrics", "before", "bounds", "notes", "timing", "params",
}  # fmt: skip
COMMON = {"defense", "attack", "accuracy_clean", "per_class_accuracy_clean"}
BACKDOOR = {"asr_after_defense", "per_original_class_asr"}
REMOVAL = {"num_removed", "removed_indices", "example_removed"}
DETECTORS = {
    "data_cleaning": ("label_flipping", "data_poisoning", {"cleaning_params"}),
    "provenance_tracking": ("clean_label", "data_poisoning", {"granularity"}),
    "influence_functions": ("clean_label", "data_poisoning", {"method", "sample_size"}),
    "activation_clustering": ("static_patch", "backdoor", set()),
    "spectral_signatures": ("learned_trigger", "backdoor", {"histogram_path"}),
    "anomaly_detection": ("static_patch", "backdoor", set()),
}
OTHERS = {
    "per_class_monitoring": ("label_flipping", "data_poisoning", {"accuracy_std", "threshold", "flagged_classes"}),
    "robust_loss": ("clean_label", "data_poisoning", {"type"}),
    "dp_training": (
        "label_flipping", "data_poisoning", {"epsilon_target", "delta_target", "clip_norm", "epsilon_spent"},
    ),
    "pruning": ("static_patch", "backdoor", {"pruned_params_fraction"}),
    "fine_pruning": (
        "static_patch", "backdoor", {"pruning_ratio", "pruned_layer", "num_neurons_pruned", "pruned_neuron_indices"},
    ),
    "model_inspection": (
        "learned_trigger", "backdoor", {"histogram_path", "layers_inspected", "suspicious_layers", "layer_stats"},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", DETECTORS)
def test_keys_of_detectors(name: str) -> None:
    attack, category, further = DETECTORS[name]
    document = build(samples.detector(name, attack, category=category), TWO)
    expected = SHARED | COMMON | REMOVAL | further | (BACKDOOR if category == "backdoor" else set())
    assert expected <= set(document)
    assert (category == "backdoor") == ("asr_after_defense" in document)


@pytest.mark.parametrize("name", OTHERS)
def test_keys_of_other_defenses(name: str) -> None:
    attack, category, further = OTHERS[name]
    document = build(samples.defense(name, attack, category), Pictures())
    assert SHARED | COMMON | further | (BACKDOOR if category == "backdoor" else set()) <= set(document)
    assert not REMOVAL & set(document)


def test_keys_of_evasion_defenses() -> None:
    metrics = {"clean_accuracy": 0.9, "adversarial_accuracy": 0.4, "adversarial_accuracy.cat": 0.3}
    document = build(samples.defense("adversarial_training", "pgd", "evasion", metrics=metrics), Pictures())
    assert document["accuracy_adversarial"] == 0.4
    assert document["per_class_accuracy_adversarial"] == {"cat": 0.3}


def test_keys_of_the_baseline() -> None:
    document = build(samples.baseline(), Pictures())
    assert set(document) >= SHARED
    assert document["overall_accuracy"] == 0.98
    assert document["per_class_accuracy"] == {"cat": 0.97, "dog": 0.98, "eel": 0.99}
    assert document["params"] == {"epochs": 4, "learning_rate": 0.0015}


ATTACKS: dict[str, tuple[str, set[str]]] = {
    "label_flipping": (
        "data_poisoning",
        {"flipping_strategy", "num_flipped", "flipping_map", "accuracy_after_attack", "per_class_accuracy",
         "example_flips"},
    ),
    "clean_label": (
        "data_poisoning",
        {"num_poisoned_samples", "num_total_samples", "accuracy_after_attack", "per_class_accuracy",
         "example_poisoned_samples"},
    ),
    **dict.fromkeys(("static_patch", "learned_trigger"), (
        "backdoor",
        {"accuracy_clean_testset", "per_class_clean", "attack_success_rate", "attack_success_numerator",
         "attack_success_denominator", "per_class_attack_success_rate", "per_class_attack_success_numerator",
         "per_class_attack_success_denominator", "example_poisoned_samples"},
    )),
    "pgd": (
        "evasion",
        {"accuracy_clean_testset", "accuracy_adversarial_testset", "per_class_clean", "per_class_adversarial",
         "example_adversarial_samples"},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", ATTACKS)
def test_keys_of_attacks(name: str) -> None:
    category, further = ATTACKS[name]
    document = build(samples.attack(name, category), TWO)
    assert SHARED | further | {"attack_type", "target_class", "target_class_name", "poison_fraction"} <= set(document)
    assert document["target_class_name"] == "cat"


def test_an_attack_without_a_target_says_so() -> None:
    found = samples.attack("pgd", "evasion")
    params = {key: value for key, value in found.params.items() if key != "attack.target_class"}
    document = build(replace(found, params=params, details={}), TWO)
    assert (document["target_class"], document["target_class_name"]) == (None, None)


def test_values_of_a_backdoor() -> None:
    counts = {"attack_success_numerator": 99, "attack_success_denominator": 100}
    document = build(samples.attack(details={**counts, "target_class": None}), TWO)
    assert document["attack_success_rate"] == 0.99
    assert document["per_class_attack_success_rate"] == {"dog": 1.0, "eel": 0.98}
    assert document["accuracy_clean_testset"] == 0.975
    assert (document["attack_success_numerator"], document["attack_success_denominator"]) == (99, 100)
    assert document["num_poisoned_samples"] == 3
    assert document["target_class_name"] is None
    assert document["example_poisoned_samples"][1] == {
        "path": "examples/02_sample_3.png", "index": 3, "true_label": 1, "true_class": "dog", "given_label": 0,
        "given_class": "cat", "poisoned": True, "score": 4.0,
    }  # fmt: skip


def test_values_of_a_detector() -> None:
    document = build(samples.detector(), TWO)
    assert document["removed_indices"] == [1, 3]
    assert (document["num_removed"], document["num_removed_poisoned"], document["num_poisoned_samples"]) == (2, 2, 3)
    assert document["accuracy_clean"] == 0.97
    assert document["asr_after_defense"] == 0.04
    assert document["params"] == {"threshold": 0.9}
    assert document["configuration"]["training.epochs"] == 4
    assert document["cut"] == 1.25


def test_parameters_fill_in_where_the_method_says_nothing() -> None:
    params = {"defense.sample_size": 500, "defense.method": "grad_influence"}
    outcome = samples.defense("influence_functions", "clean_label", "data_poisoning", params=params)
    assert build(outcome, Pictures())["sample_size"] == 500
    assert build(samples.defense("dp_training", params={"defense.epsilon": 2.0}), Pictures())["epsilon_target"] == 2.0
    told = samples.defense("influence_functions", params=params, details={"sample_size": 200})
    assert build(told, Pictures())["sample_size"] == 200


def test_a_defense_says_what_it_was_allowed_and_how_it_trained() -> None:
    trained = build(samples.defense("dp_training", "label_flipping", "data_poisoning"), Pictures())
    assert trained["recipe"].startswith("SGD on large Poisson-sampled batches")
    assert (trained["uses_clean_model"], trained["trusted_for"]) == (False, None)
    for name in ("influence_functions", "provenance_tracking"):
        document = build(samples.detector(name, "clean_label", category="data_poisoning"), TWO)
        assert document["uses_clean_model"] is True and document["recipe"] is None
    assert build(samples.detector("influence_functions", "clean_label"), TWO)["trusted_for"]
    assert "uses_clean_model" not in build(samples.defense("jpeg_preprocessing", "pgd", "evasion"), Pictures())
    assert not {"recipe", "trusted_for"} & set(build(samples.attack(), TWO))


def test_influence_functions_rank_the_most_harmful() -> None:
    ranking = build(samples.detector("influence_functions", "clean_label"), TWO)["influence_ranking"]
    assert [entry["index"] for entry in ranking[:3]] == [1, 3, 8]
    assert ranking[0] == {"index": 1, "score": 5.0}
    many = np.arange(250.0)
    flags = many > 200
    outcome = samples.detector(
        "influence_functions", scores=many, labels=np.zeros(250, np.int64), poisoned=flags, flagged=flags
    )
    assert [entry["index"] for entry in build(outcome, TWO)["influence_ranking"]] == list(range(249, 149, -1))
    assert "influence_ranking" not in build(samples.detector(), TWO)


def test_details_replace_nothing_that_all_runs_share() -> None:
    document = build(samples.detector(details={"seed": 99, "uid": "x", "cut": 1, "classes": {"cat": 1}}), TWO)
    assert (document["seed"], document["uid"], document["cut"]) == (3, "run-1", 1)
    assert (document["classes"], document["class_names"]) == ({"cat": 1}, list(samples.CLASSES))
    assert document["details"]["seed"] == 99


def test_everything_is_plain_json() -> None:
    details: dict[str, Any] = {"nan": float("nan"), "array": np.arange(3), "scalar": np.float32(0.5)}
    document = build(samples.detector(details=details), TWO)
    assert (document["nan"], document["array"], document["scalar"]) == (None, [0, 1, 2], 0.5)


def test_own_parameters() -> None:
    chain = {"training.epochs": 3, "attack": "a", "attack.rate": 0.1, "defense.k": 2, "bound.detector": "d"}
    assert own_params(chain, "attack") == {"rate": 0.1}
    assert own_params(chain, "defense") == {"k": 2}
    assert own_params(chain, "bound") == {"detector": "d"}


@pytest.mark.parametrize("outcome", [samples.attack("label_flipping", "data_poisoning"), samples.detector()])
def test_moving_pictures_changes_paths_alone(outcome: Outcome) -> None:
    pictures = Pictures(TWO.examples, (("examples/evil", "histograms/00_x.png"),))
    document = build(outcome, pictures)
    moved = with_folders(document, "cleaned_examples", "plots")
    assert [e["path"] for e in moved[example_key(moved)]] == [
        "cleaned_examples/01_sample_1.png", "cleaned_examples/02_sample_3.png",
    ]  # fmt: skip
    assert moved["histograms"] == [{"name": "examples/evil", "path": "plots/00_x.png"}]
    assert moved["histogram_path"] == "plots"
    assert with_folders(moved, "examples", "histograms") == document
