from __future__ import annotations

import pytest
import torch
from sklearn.metrics import roc_auc_score

from safedl.catalog.defenses.backdoor import SpectralSignaturesParams
from safedl.defenses.contract import Scenario
from safedl.defenses.spectral_signatures import detect, spectral_scores
from tests.defenses.conftest import Backdoored, planted

PAPER = SpectralSignaturesParams()


@pytest.mark.parametrize("mean", [4.0, 0.0, -3.0, -6.0])
def test_scores_find_a_planted_direction_whatever_the_class_mean(mean: float) -> None:
    rng = torch.Generator().manual_seed(0)
    features = torch.randn(2000, 20, generator=rng)
    features[:, 0] += mean
    features[:200, 0] += 6
    poison = torch.arange(2000) < 200
    top = spectral_scores(features, 1).argsort(descending=True)[:300]
    assert poison[top].sum() >= 0.98 * 200


def test_scores_equal_a_singular_value_decomposition() -> None:
    features = torch.randn(50, 8, generator=torch.Generator().manual_seed(1))
    centred = features - features.mean(0)
    left, values, _ = torch.linalg.svd(centred, full_matrices=False)
    expected = (left[:, :3] * values[:3]).square().sum(1)
    assert torch.allclose(spectral_scores(features, 3), expected, atol=1e-4)


@pytest.mark.parametrize("mean", [5.0, -5.0])
def test_whitening_finds_a_direction_that_natural_factors_hide(mean: float) -> None:
    case = planted(poison=60, mean=mean)
    with_trusted = detect(case.scenario, PAPER)
    without = detect(case.scenario, SpectralSignaturesParams(trusted=False, directions=1))
    own = case.scenario.data.labels == 1
    assert roc_auc_score(case.mask[own], with_trusted.scores[own]) > 0.99
    assert roc_auc_score(case.mask[own], without.scores[own]) < 0.8
    assert with_trusted.details["suspicious_classes"] == ["1"]
    assert with_trusted.flagged[~case.mask].float().mean() <= 0.02


@pytest.mark.parametrize("variant", ["paper", "literal"])
def test_without_trusted_data_a_fixed_share_of_every_class_goes(variant: str) -> None:
    params = SpectralSignaturesParams.model_validate({"variant": variant, "trusted": False, "threshold": 0.8})
    result = detect(planted(poison=0).scenario, params)
    assert result.details["trusted_used"] == 0
    assert [int(result.flagged[200 * c : 200 * (c + 1)].sum()) for c in range(3)] == [40, 40, 40]


def test_threshold_bounds_what_is_removed() -> None:
    case = planted(poison=120)
    loose = detect(case.scenario, SpectralSignaturesParams(threshold=0.0)).flagged
    strict = detect(case.scenario, SpectralSignaturesParams(threshold=0.999)).flagged
    assert not (strict & ~loose).any()
    assert 0 < strict.sum() < loose.sum()


def test_backdoored_digits(backdoored: Backdoored) -> None:
    result = detect(backdoored.scenario, PAPER)
    assert result.details["suspicious_classes"] == ["7"]
    assert result.flagged[backdoored.mask].float().mean() >= 0.95
    assert result.flagged[~backdoored.mask].float().mean() <= 0.02


def test_clean_digits_are_left_alone(clean_scenario: Scenario) -> None:
    assert detect(clean_scenario, PAPER).flagged.float().mean() <= 0.02


def test_literal_scores_are_projections_on_one_direction() -> None:
    scenario = planted(poison=0).scenario
    scores = detect(scenario, SpectralSignaturesParams(variant="literal")).scores
    for label in range(3):
        own = scenario.features()[scenario.data.labels == label]
        centred = own - own.mean(0)
        direction = torch.linalg.svd(centred).Vh[0]
        assert torch.allclose(scores[scenario.data.labels == label], (centred @ direction).abs(), atol=1e-3)
