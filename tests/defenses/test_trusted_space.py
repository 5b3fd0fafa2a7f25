from __future__ import annotations

import numpy as np
import pytest
import torch

from safedl.catalog.defenses.backdoor import SpectralSignaturesParams
from safedl.defenses.spectral_signatures import detect
from safedl.defenses.trusted_space import (
    Whitening,
    decide,
    foreign,
    judge_scores,
    minimum_error_cut,
    scores_by_class,
)
from tests.conftest import Listening
from tests.defenses.conftest import FeatureScenario, planted


def test_whitening_makes_the_spread_within_classes_even() -> None:
    rng = torch.Generator().manual_seed(0)
    labels = torch.arange(4000) % 2
    mixing = torch.eye(6) * torch.tensor([3.0, 2, 1, 1, 1, 1]) + 0.3
    features = torch.randn(4000, 6, generator=rng) @ mixing.T + 50 * labels.unsqueeze(1)
    white = Whitening.fit(features, labels, 2).apply(features, labels)
    assert torch.allclose(white[labels == 1].mean(0), torch.zeros(6), atol=1e-3)
    assert torch.allclose(white.T @ white / len(white), torch.eye(6), atol=0.03)


@pytest.mark.parametrize("upper", [0.1, 0.5, 0.8])
def test_the_cut_falls_between_two_groups_of_any_size(upper: float) -> None:
    rng = torch.Generator().manual_seed(1)
    count = round(1000 * upper)
    low = torch.exp(0.3 * torch.randn(1000 - count, generator=rng))
    high = 20 * torch.exp(0.3 * torch.randn(count, generator=rng))
    assert float(low.max()) <= minimum_error_cut(torch.cat([low, high])) <= float(high.min())


def test_the_cut_against_trying_every_one() -> None:
    rng = np.random.default_rng(0)
    for count in (4, 5, 30, 200):
        scores = np.exp(rng.normal(size=count)) * np.where(rng.random(count) < 0.3, 10, 1)
        values = np.sort(np.log(scores))
        floor = 1e-3 * values.var(ddof=1)
        costs = [
            sum(len(p) * (np.log(max(p.var(), floor)) / 2 - np.log(len(p) / count)) for p in np.split(values, [k]))
            for k in range(2, count - 1)
        ]
        best = 2 + int(np.argmin(costs))
        expected = np.exp((values[best - 1] + values[best]) / 2)
        assert minimum_error_cut(torch.from_numpy(scores)) == pytest.approx(expected, rel=1e-6)


def test_a_group_is_foreign_only_if_trusted_images_stay_out_against_the_odds() -> None:
    assert foreign(0.33, 0, 20)
    assert not foreign(0.33, 6, 20)
    assert not foreign(0.02, 0, 20)  # none would be expected anyway
    assert not foreign(0.1, 0, 20)  # so by chance one time in eight
    assert foreign(0.02, 0, 1000)


def test_strays_are_forgiven_only_where_chance_is_ruled_out() -> None:
    assert not foreign(0.37, 2, 20)
    assert foreign(0.37, 2, 20, 1 / 3)  # so few by chance: 0.7 %
    assert not foreign(0.048, 1, 100, 1 / 3)  # 4 %
    assert not foreign(0.9, 10, 20, 1 / 3)  # chance is ruled out, but half of the trusted images lie inside


def test_a_class_without_poison_is_not_suspicious() -> None:
    rng = torch.Generator().manual_seed(2)
    scores, trusted = torch.randn(2, 300, generator=rng).square() + 0.1
    assert not judge_scores(scores, trusted[:30]).suspicious


def test_trusted_images_are_scored_as_images_of_the_same_kind_are() -> None:
    """By a whitening that has not seen them: their own would make them look too near."""
    scores, trusted = scores_by_class(planted(poison=0).scenario, lambda _space: lambda x, _label: x.square().sum(1))
    assert float(trusted.mean()) == pytest.approx(float(scores.mean()), rel=0.05)


def test_what_is_flagged_lies_above_the_quantile_of_trusted_scores() -> None:
    rng = torch.Generator().manual_seed(0)
    low = torch.exp(0.3 * torch.randn(289, generator=rng))
    scores = torch.cat([low[:200], 20 * low[200:260]])
    trusted = torch.cat([low[260:], torch.tensor([20.0])])  # one stray among the poison
    nowhere = [torch.zeros(count, dtype=torch.int64) for count in (260, 30)]
    scenario = FeatureScenario(scores.unsqueeze(1), nowhere[0], trusted.unsqueeze(1), nowhere[1])
    assert decide(scenario, scores, trusted).flagged.sum() == 60
    assert torch.equal(decide(scenario, scores, trusted, quantile=1.0).flagged, scores > 20)


@pytest.mark.parametrize(("count", "said"), [(10, []), (9, ["class '2' has 9, 10 of each are needed"])])
def test_too_few_trusted_images_are_done_without_and_the_log_says_so(count: int, said: list[str]) -> None:
    lines: list[str] = []

    scenario = planted(poison=60).scenario
    known = scenario.trusted.labels
    kept = (known != 2) | ((known == 2).cumsum(0) <= count)
    few = FeatureScenario(scenario.features(), scenario.data.labels, scenario.trusted_features()[kept], known[kept])
    few.bench.progress = Listening(lines)
    details = detect(few, SpectralSignaturesParams()).details
    assert details["trusted_used"] == (0 if said else len(few.trusted))
    assert [line.partition(": ")[2] for line in lines] == said
