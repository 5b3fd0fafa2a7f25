from __future__ import annotations

import pytest
import torch
from sklearn.metrics import roc_auc_score

from safedl.catalog.defenses.backdoor import AnomalyDetectionParams, AnomalyType
from safedl.defenses.anomaly_detection import detect, robust_cut
from safedl.defenses.contract import Scenario
from tests.defenses.conftest import Backdoored, planted

TYPES: tuple[AnomalyType, ...] = ("lof", "isolation_forest")


@pytest.mark.parametrize("kind", TYPES)
def test_planted_outliers_are_found(kind: AnomalyType) -> None:
    case = planted(poison=80, shift=6.0, axes=9)
    result = detect(case.scenario, AnomalyDetectionParams(type=kind))
    own = case.scenario.data.labels == 1
    assert roc_auc_score(case.mask[own], result.scores[own]) > 0.98
    assert result.details["suspicious_classes"] == ["1"]
    assert result.flagged[case.mask].float().mean() >= 0.9
    assert result.flagged[~case.mask].float().mean() <= 0.02


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("variant", ["paper", "literal"])
def test_scattered_outliers_are_found_without_trusted_data(kind: AnomalyType, variant: str) -> None:
    case = planted(poison=4, shift=60.0)
    params = AnomalyDetectionParams.model_validate({"type": kind, "variant": variant, "trusted": False})
    result = detect(case.scenario, params)
    assert result.details["trusted_used"] == 0
    assert result.flagged[case.mask].all()
    assert result.flagged[~case.mask].float().mean() <= 0.2


def test_the_robust_cut_ignores_a_tail() -> None:
    values = torch.cat([torch.linspace(-1, 1, 101), torch.full((20,), 1000.0)])
    assert 1 < robust_cut(values) < 5


def test_the_robust_cut_of_normal_values_lies_at_three_deviations() -> None:
    values = torch.randn(100_001, generator=torch.Generator().manual_seed(0))
    assert robust_cut(values) == pytest.approx(3.0, abs=0.05)


@pytest.mark.parametrize("kind", TYPES)
def test_backdoored_digits(backdoored: Backdoored, kind: AnomalyType) -> None:
    result = detect(backdoored.scenario, AnomalyDetectionParams(type=kind))
    own = backdoored.scenario.data.labels == backdoored.target
    assert roc_auc_score(backdoored.mask[own], result.scores[own]) >= 0.99
    assert result.flagged[~backdoored.mask].float().mean() <= 0.02
    assert result.flagged[backdoored.mask].float().mean() >= 0.9


def test_clean_digits_are_left_alone(clean_scenario: Scenario) -> None:
    assert detect(clean_scenario, AnomalyDetectionParams()).flagged.float().mean() <= 0.02


def test_ten_components_hold_outliers_that_the_first_ones_miss() -> None:
    """Along an axis whose spread, outliers included, is below that of the three natural factors."""
    case = planted(poison=4, shift=30.0)
    result = detect(case.scenario, AnomalyDetectionParams(type="lof", trusted=False))
    assert result.flagged[case.mask].all()
