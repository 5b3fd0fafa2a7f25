"""The scan of planted and of clean digits."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from safedl.data.imageset import Dataset, ImageSet
from safedl.defenses.contract import Scenario
from safedl.defenses.reversed_trigger import find_small_triggers
from safedl.errors import UsageError
from safedl.models.classifier import Classifier
from safedl.scan.examine import (
    Examination,
    Group,
    _backdoor_groups,
    _influence,
    _label_groups,
    _point,
    _Pointed,
    examine,
    probe,
)
from safedl.scan.inspect import inspect
from safedl.scan.opinions import Opinion
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


@pytest.mark.parametrize(
    ("by", "calls", "certain"), [(("one",), 0.1, False), (("one", "other"), 0.1, True), (("one",), 0.6, True)]
)
def test_two_detectors_or_a_trigger_make_it_certain(
    clean_scenario: Scenario, by: tuple[str, ...], calls: float, certain: bool
) -> None:
    positions = torch.arange(20)
    pointed = _Pointed(0, positions, positions < 8, positions < 8, by, calls=calls)
    (group,), _ = _backdoor_groups(clean_scenario, [pointed], trusted=True)
    assert group.certain == certain and group.target == 0


@pytest.mark.parametrize(("left", "found"), [(0, False), (4, False), (5, True), (-5, True), (-4, True)])
def test_a_few_images_are_no_group(clean_scenario: Scenario, left: int, found: bool) -> None:
    own = (clean_scenario.data.labels == 3).nonzero().flatten()
    flagged = torch.zeros(len(clean_scenario.data), dtype=torch.bool)
    flagged[own[:left]] = True
    pointed = _point(clean_scenario, [Opinion("spectral_signatures", flagged.float(), flagged, (3,), {})])
    assert [p.label for p in pointed] == [3] * found
    assert not _point(clean_scenario, [Opinion("spectral_signatures", flagged.float(), flagged, (4,), {})])


def test_all_of_a_class_is_a_group_but_not_for_certain(clean_scenario: Scenario) -> None:
    flagged = clean_scenario.data.labels == 3
    (pointed,) = _point(clean_scenario, [Opinion(n, flagged.float(), flagged, (3,), {}) for n in ("one", "two")])
    (group,), _ = _backdoor_groups(clean_scenario, [pointed], trusted=True)
    assert group.target == 3 and not group.certain and "trusted images come from elsewhere" in group.sentence
    stamped = torch.arange(len(pointed.positions)) < 8
    (part,), _ = _backdoor_groups(clean_scenario, [replace(pointed, calls=0.9, inside=stamped)], trusted=True)
    assert part.certain and part.sentence.startswith("8 images") and "nearly all" not in part.sentence
    (group,), _ = _backdoor_groups(clean_scenario, [replace(pointed, calls=0.9)], trusted=False)
    assert not group.certain and "nearly all" in group.sentence and "trusted" not in group.sentence


@pytest.mark.parametrize(("classes", "found"), [(5, 5), (6, 0)])
def test_trusted_images_from_elsewhere_are_no_poison_of_most_classes(
    clean_scenario: Scenario, classes: int, found: int
) -> None:
    flagged = clean_scenario.data.labels < classes
    opinion = Opinion("anomaly_detection", flagged.float(), flagged, tuple(range(classes)), {})
    assert len(_point(clean_scenario, [opinion])) == found


def test_without_trusted_images_only_clusters_point_at_a_class(
    clean_scenario: Scenario, monkeypatch: pytest.MonkeyPatch
) -> None:
    def say(scenario: Scenario, name: str, _rate: float, **_: object) -> Opinion:
        flagged = (scenario.data.labels == 3) & (torch.arange(len(scenario.data)) < 500)
        flagged &= torch.tensor(name in ("spectral_signatures", "anomaly_detection"))
        return Opinion(name, flagged.float(), flagged, (3,), {"estimated_noise": 0.0})

    monkeypatch.setattr("safedl.scan.examine.ask", say)
    result = examine(without_trusted(clean_scenario), RATE)
    assert result.verdict == "no evidence" and not result.dismissed


def label_groups(scenario: Scenario, share: float, rate: float, trusted: int, taken: int = 0) -> list[Group]:
    """Return what becomes of a `share` of 1000 labels said to be wrong; the first `taken` belong to a group already."""
    known = scenario.trusted.select(torch.zeros(trusted, dtype=torch.int64))
    order = torch.arange(1000)
    opinion = Opinion("data_cleaning", torch.ones(1000), order < round(share * 1000), (), {})
    return _label_groups(replace(scenario, trusted=known), opinion, order < taken, rate, trusted=True)


def test_wrong_labels_have_to_be_more_than_chance_gives(clean_scenario: Scenario) -> None:
    assert label_groups(clean_scenario, 0.09, 0.05, trusted=100) == []  # so few trusted images tell the rate badly
    assert len(label_groups(clean_scenario, 0.09, 0.05, trusted=10_000)) == 1


def test_only_many_wrong_labels_are_certain(clean_scenario: Scenario) -> None:
    found = [label_groups(clean_scenario, share, 0.01, trusted=10_000) for share in (0.03, 0.2)]
    assert [group.certain for groups in found for group in groups] == [False, True]


def test_what_belongs_to_a_backdoor_is_no_wrong_label(clean_scenario: Scenario) -> None:
    (group,) = label_groups(clean_scenario, 0.3, 0.01, trusted=1000, taken=100)
    assert group.members.tolist() == list(range(100, 300))


def test_influence_is_judged_by_a_model_that_has_not_seen_the_candidates(
    clean_scenario: Scenario, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []

    class Watched(Scenario):
        def fit(self, data: ImageSet, **_: Any) -> Classifier:
            seen.append(len(data))
            return clean_scenario.model

    scene = Watched(
        clean_scenario.data, clean_scenario.trusted, clean_scenario.classes, clean_scenario.model, clean_scenario.bench
    )
    candidates = torch.arange(len(scene.data)) < 100
    opinion = _influence(scene, candidates, RATE)
    assert opinion.detector == "influence_functions" and len(opinion.scores) == len(scene.data)
    assert seen == [len(scene.data) - 100]


def test_two_classes_are_too_few_for_the_scan_of_a_model(backdoored: Backdoored) -> None:
    two = replace(backdoored.scenario, classes=("a", "b"))
    assert inspect(two, two.model) is None
    with pytest.raises(UsageError, match="needs 3 classes or more"):
        find_small_triggers(two)
