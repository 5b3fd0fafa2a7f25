"""The scan of planted and of clean digits."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from safedl.data.imageset import Dataset
from safedl.defenses.contract import Scenario
from safedl.defenses.reversed_trigger import find_small_triggers
from safedl.errors import UsageError
from safedl.scan.examine import Examination, _backdoor_groups, _Pointed, examine, probe
from safedl.scan.inspect import inspect
from tests.defenses.conftest import Backdoored
from tests.defenses.flips import flip, scenario, without_trusted

RATE = 0.01
_SCANNED: dict[bool, Examination] = {}


def scanned(backdoored: Backdoored, trusted: bool) -> Examination:
    """Return the examination of the patched digits, made once."""
    if trusted not in _SCANNED:
        suspects = backdoored.scenario if trusted else without_trusted(backdoored.scenario)
        _SCANNED[trusted] = examine(suspects, RATE)
    return _SCANNED[trusted]


def found_of(result: Examination, mask: Tensor) -> tuple[float, float]:
    """Return recall and precision of the list."""
    listed = ~result.unsuspected
    return float((listed & mask).sum() / mask.sum()), float((listed & mask).sum() / listed.sum().clamp_min(1))


@pytest.mark.parametrize("trusted", [True, False])
def test_a_patch_is_found_with_its_target(backdoored: Backdoored, trusted: bool) -> None:
    result = scanned(backdoored, trusted)
    recall, precision = found_of(result, backdoored.mask)
    assert result.verdict == "poisoned" and result.target_classes == [backdoored.target]
    assert recall >= 0.95 and precision >= 0.9
    names = [o.detector for o in result.opinions]
    assert ("influence_functions" in names) == trusted


@pytest.mark.parametrize("trusted", [True, False])
def test_clean_digits_give_no_evidence(clean_scenario: Scenario, trusted: bool) -> None:
    result = examine(clean_scenario if trusted else without_trusted(clean_scenario), RATE)
    assert result.verdict == "no evidence" and not len(result.suspects) and result.unsuspected.all()


@pytest.mark.parametrize("trusted", [True, False])
def test_wrong_labels_are_listed(digits: Dataset, trusted: bool) -> None:
    labels = flip(digits.train.labels, "random", 0.15)
    suspects = scenario(digits, labels, model="mlp", fitted=True)
    result = examine(suspects if trusted else without_trusted(suspects), RATE)
    recall, precision = found_of(result, labels != digits.train.labels)
    assert result.verdict != "no evidence" and not result.target_classes
    assert recall >= 0.7 and precision >= 0.8


def test_too_few_trusted_images_of_a_class_are_refused(clean_scenario: Scenario) -> None:
    trusted = clean_scenario.trusted
    few = trusted.select((trusted.labels != 3) | (torch.arange(len(trusted)) < 30))
    with pytest.raises(UsageError, match=r"trusted images: \d of class '3'; give at least 10 of each class"):
        examine(replace(clean_scenario, trusted=few), RATE)


def test_a_trigger_is_reconstructed_in_a_patched_model_and_not_in_a_clean_one(
    backdoored: Backdoored, clean_scenario: Scenario
) -> None:
    found = inspect(backdoored.scenario, backdoored.scenario.model)
    assert found.suspicious and found.suspicious[0] == backdoored.target
    assert found.mask is not None and found.pattern is not None
    assert found.mask[0, -2:, -2:].mean() > 2 * found.mask.mean()
    assert inspect(clean_scenario, clean_scenario.model).suspicious == ()


def test_triggers_are_reconstructed_on_samples_without_suspects(backdoored: Backdoored) -> None:
    judged = probe(without_trusted(backdoored.scenario), scanned(backdoored, False))
    assert 0 < len(judged.trusted) <= 50 * 10
    known = probe(backdoored.scenario, scanned(backdoored, True))
    assert known.trusted is backdoored.scenario.trusted


def test_sentences_tell_who_stood_apart_from_who_joined(backdoored: Backdoored) -> None:
    scenario, positions = backdoored.scenario, torch.arange(20)
    flagged = positions < 8
    pointed = _Pointed(0, positions, flagged, flagged, ("spectral_signatures",))
    (group,), _ = _backdoor_groups(scenario, [replace(pointed, inside=positions < 11, calls=0.9)], trusted=True)
    assert len(group.members) == 11
    assert group.sentence.startswith("8 images of class") and "3 more images of it carry that" in group.sentence
    (sentence,) = _backdoor_groups(scenario, [replace(pointed, calls=0.1)], trusted=False)[1]
    assert "sends only 10%" in sentence
    (sentence,) = _backdoor_groups(scenario, [pointed], trusted=False)[1]
    assert "too little is left" in sentence and "0%" not in sentence.partition(", but")[2]


def test_two_classes_are_too_few_for_the_scan_of_a_model(backdoored: Backdoored) -> None:
    two = replace(backdoored.scenario, classes=("a", "b"))
    assert inspect(two, two.model) is None
    with pytest.raises(UsageError, match="needs 3 classes or more"):
        find_small_triggers(two)
