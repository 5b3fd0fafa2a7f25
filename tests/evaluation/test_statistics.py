from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from safedl.evaluation.statistics import estimate, pareto, t_quantile, tied


@pytest.mark.parametrize("freedom", [*range(1, 32), 40, 100, 1000])
def test_quantiles_against_scipy(freedom: int) -> None:
    stats = pytest.importorskip("scipy.stats")
    assert t_quantile(freedom) == pytest.approx(stats.t.ppf(0.975, freedom), rel=2e-6)


def test_mean_and_interval_of_a_hand_made_case() -> None:
    found = estimate([0.9, 0.92, 0.97])
    assert found.mean == pytest.approx(0.93)
    assert found.high is not None
    assert found.low is not None
    half = 4.302653 * 0.0360555 / 3**0.5
    assert (found.low, found.high) == pytest.approx((0.93 - half, 0.93 + half), abs=1e-5)
    assert found.text == f"0.930 ± {half:.3f}"


def test_a_single_seed_has_no_interval() -> None:
    found = estimate([0.5])
    assert (found.mean, found.low, found.high, found.count, found.text) == (0.5, None, None, 1, "0.500")


def test_no_value_has_no_mean() -> None:
    with pytest.raises(ValueError, match="no values"):
        estimate([])


def test_the_interval_covers_the_mean_95_times_in_100() -> None:
    rng = random.Random(0)
    hits = 0
    for _ in range(4000):
        found = estimate([rng.gauss(0.0, 1.0) for _ in range(4)])
        assert found.low is not None
        assert found.high is not None
        hits += found.low <= 0.0 <= found.high
    assert 0.94 < hits / 4000 < 0.96


def test_paired_seeds_tell_apart_what_overlapping_intervals_cannot() -> None:
    best = {0: 0.95, 1: 0.75, 2: 0.55, 3: 0.35}
    assert not tied(best, {seed: value - 0.02 - 0.001 * seed for seed, value in best.items()})
    assert tied(best, {0: 0.90, 1: 0.80, 2: 0.45, 3: 0.40})


def test_other_seeds_are_compared_by_their_intervals() -> None:
    assert tied({0: 0.9, 1: 0.8}, {2: 0.85, 3: 0.7})
    assert not tied({0: 0.9, 1: 0.901}, {2: 0.5, 3: 0.501})


def test_one_seed_ties_only_with_an_equal() -> None:
    assert tied({0: 0.5}, {0: 0.5})
    assert not tied({0: 0.5}, {0: 0.49})


def test_pareto_of_a_hand_made_case() -> None:
    points = [(0.98, -0.99), (0.97, -0.05), (0.90, -0.01), (0.90, -0.02), (0.95, -0.05), (0.97, -0.05)]
    assert pareto(points) == [True, True, True, False, False, True]
    assert pareto([]) == []


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), max_size=12))
def test_pareto_against_its_definition(points: list[tuple[float, float]]) -> None:
    def beaten(p: tuple[float, float]) -> bool:
        return any(q != p and q[0] >= p[0] and q[1] >= p[1] for q in points)

    assert pareto(points) == [not beaten(p) for p in points]
