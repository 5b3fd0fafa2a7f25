from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from scipy.stats import norm

from safedl.catalog.defenses.poisoning import PerClassMonitoringParams
from safedl.data.imageset import Dataset
from safedl.defenses.contract import Scenario
from safedl.defenses.per_class_monitoring import (
    _largest_confusion,
    corrected,
    diagnose,
    mcnemar,
    paired_statistics,
)
from safedl.errors import UsageError
from safedl.training import predict
from tests.defenses import flips


def test_mcnemar_against_its_chi_square() -> None:
    z = mcnemar(torch.tensor([15.0, 5.0, 4.0, 0.0]), torch.tensor([5.0, 15.0, 4.0, 0.0]))
    assert z[0].item() ** 2 == pytest.approx((10 - 1) ** 2 / 20)
    assert z[1].item() == -z[0].item()
    assert z[2:].tolist() == [0.0, 0.0]


def test_correction_is_bonferronis() -> None:
    assert norm.sf(corrected(2.0, 20)) == pytest.approx(norm.sf(2.0) / 20)
    assert corrected(2.0, 1) == pytest.approx(2.0)


@pytest.mark.parametrize("z", [9.0, 20.0, 37.0])
def test_correction_holds_far_out(z: float) -> None:
    assert corrected(z, 20) == pytest.approx(norm.isf(norm.sf(z) / 20))


@pytest.mark.parametrize("z", [38.4, 40.0, 1e6])
def test_correction_is_a_number_wherever_it_is_asked_for(z: float) -> None:
    assert z <= corrected(z, 20) < z + 0.1


def test_planted_confusion_shows_in_both_statistics() -> None:
    """Thirty images of class 0 are taken for class 2; the reference is right everywhere."""
    labels = torch.arange(3).repeat_interleave(50)
    predicted = labels.clone()
    predicted[:30] = 2
    loss, excess = paired_statistics(predicted, labels.clone(), labels, 3)
    assert loss[0] > 4
    assert loss[1:].tolist() == [0, 0]
    assert excess[2] > 4
    assert excess[0] < -4


def test_errors_that_the_reference_makes_too_are_no_excess() -> None:
    labels = torch.arange(2).repeat_interleave(50)
    predicted = labels.clone()
    predicted[:30] = 1
    loss, excess = paired_statistics(predicted, predicted.clone(), labels, 2)
    assert loss.tolist() == [0, 0]
    assert excess[1] == 0


def test_names_the_class_that_labels_were_flipped_to(digits: Dataset) -> None:
    scene = flips.scenario(digits, flips.flip(digits.train.labels, "many_to_one", 0.3), fitted=True)
    found = diagnose(scene, PerClassMonitoringParams())
    assert found.suspicious
    assert "6" in found.details["flagged_classes"]
    assert found.details["confused_target"] == "6"


def test_no_alarm_on_clean_data(clean_scenario: Scenario) -> None:
    found = diagnose(clean_scenario, PerClassMonitoringParams(std_threshold=2.0))
    assert not found.suspicious
    assert found.details["flagged_classes"] == []
    assert found.details["threshold"] == corrected(2.0, 2 * 10)  # two statistics of ten classes


def test_literal_flags_below_mean_minus_deviations(clean_scenario: Scenario) -> None:
    found = diagnose(clean_scenario, PerClassMonitoringParams(std_threshold=1.0, variant="literal"))
    trusted = clean_scenario.trusted
    logits = clean_scenario.bench.predict(clean_scenario.model, trusted.images)
    accuracy = predict.class_accuracy(logits, trusted.labels, 10).numpy()
    threshold = accuracy.mean() - accuracy.std()
    assert found.details["threshold"] == pytest.approx(threshold, abs=1e-6)
    assert found.details["accuracy_std"] == pytest.approx(accuracy.std(), abs=1e-6)
    assert found.details["flagged_classes"] == [str(c) for c in range(10) if accuracy[c] < threshold]


def test_refuses_classes_without_trusted_images(clean_scenario: Scenario) -> None:
    trusted = clean_scenario.trusted
    scene = replace(clean_scenario, trusted=trusted.select(trusted.labels != 3))
    with pytest.raises(UsageError, match="trusted images of each class"):
        diagnose(scene, PerClassMonitoringParams())


def test_being_right_where_the_reference_errs_is_no_excess() -> None:
    labels = torch.arange(2).repeat_interleave(50)
    reference = labels.clone()
    reference[50:80] = 0
    loss, excess = paired_statistics(labels, reference, labels, 2)
    assert loss[1] < -4
    assert excess[1] == 0


def test_a_confusion_that_the_reference_shares_has_not_grown(clean_scenario: Scenario) -> None:
    labels = torch.arange(10).repeat_interleave(20)
    reference = labels.clone()
    reference[:15] = 1  # 0 looks like 1 to anybody
    predicted = reference.clone()
    predicted[100:110] = 9
    found = _largest_confusion(clean_scenario, predicted, reference, labels)
    assert found == {"confused_source": "5", "confused_target": "9", "confusion_growth": 0.5}
