from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
from sklearn.metrics import silhouette_score

from safedl import library
from safedl.catalog.defenses.backdoor import ActivationClusteringParams
from safedl.defenses.activation_clustering import Split, by_places, by_size, detect, silhouette, split_class
from safedl.defenses.contract import Scenario
from safedl.defenses.trusted_space import CERTAIN_RATIO
from tests.defenses.conftest import Backdoored, planted

PAPER = ActivationClusteringParams()


def test_a_planted_cluster_is_split_off_and_the_other_classes_are_left_alone() -> None:
    case = planted(poison=80)
    result = detect(case.scenario, PAPER)
    assert result.details["suspicious_classes"] == ["1"]
    assert result.flagged[case.mask].float().mean() >= 0.97
    assert result.flagged[~case.mask].float().mean() <= 0.02
    assert result.scores[case.mask].min() > result.scores[~case.mask].median()


def test_trusted_images_are_scored_as_sound_images_of_their_class_are() -> None:
    case = planted(poison=80)
    result = detect(case.scenario, PAPER)
    assert result.reference is not None and result.reference.max() > 0
    sound, known = case.scenario.data.labels != 1, case.scenario.trusted.labels != 1
    assert float(result.reference[known].mean()) == pytest.approx(float(result.scores[sound].mean()), abs=0.05)


def test_the_poison_may_be_the_larger_cluster() -> None:
    case = planted(poison=260)
    result = detect(case.scenario, PAPER)
    assert result.flagged[case.mask].float().mean() >= 0.97
    assert result.flagged[~case.mask].float().mean() <= 0.02


def test_single_clusters_are_left_alone() -> None:
    result = detect(planted(poison=0).scenario, PAPER)
    assert not result.flagged.any()
    assert result.details["suspicious_classes"] == []


@pytest.mark.parametrize(("small", "apart", "suspicious"), [(30, 9.0, True), (90, 9.0, False), (30, 0.0, False)])
def test_without_trusted_data_size_and_silhouette_decide(small: int, apart: float, suspicious: bool) -> None:
    rng = np.random.default_rng(0)
    features = rng.normal(size=(200, 10))
    features[:small] += apart / np.sqrt(10)
    clusters = by_size(split_class(features, None, 2, seed=0))
    assert any(cluster["suspicious"] for cluster in clusters) == suspicious


def test_of_images_that_the_whitening_has_not_seen_some_may_stray_into_a_large_cluster() -> None:
    """Two of 20 where eight would be expected, as in the demo; three of 60 where eight would be, as in clean data."""
    large, small = (Split(np.eye(2)[(np.arange(100) < count).astype(int)], np.ones((0, 2)), 0.5) for count in (40, 13))
    for split, strays, trusted, suspicious in ((large, 2, 20, True), (large, 3, 20, False), (small, 3, 60, False)):
        clusters = by_places(split, (np.arange(trusted) < strays).astype(int), CERTAIN_RATIO)
        assert clusters[1]["suspicious"] is suspicious
    assert not by_places(large, (np.arange(20) < 2).astype(int))[1]["suspicious"]


def test_halves_of_a_class_do_not_outweigh_the_poison_of_another() -> None:
    rng = np.random.default_rng(0)
    features = rng.normal(size=(400, 10))
    features[:90] += 30 / np.sqrt(10)  # of 200: natural, and farther apart than the poison of the other class
    features[200:240] += 9 / np.sqrt(10)
    found = library.detect(features, np.arange(400) // 200, "activation_clustering")
    assert found.flagged.nonzero().flatten().tolist() == list(range(200, 240))
    assert found.scores[200:240].min() > found.scores[:200].max()


def test_clusters_that_are_not_apart_are_natural_even_if_trusted_images_keep_to_one() -> None:
    rng = np.random.default_rng(0)
    features = rng.normal(size=(400, 5)) * np.array([1.8, 1, 1, 1, 1])
    trusted = rng.normal(size=(60, 5)) * np.array([0.5, 1, 1, 1, 1]) - np.array([4.0, 0, 0, 0, 0])
    split = split_class(features, trusted, 2, seed=0)
    clusters = by_places(split, split.known.argmax(1))
    assert any(cluster["trusted_share"] == 0.0 for cluster in clusters)
    assert not any(cluster["suspicious"] for cluster in clusters)


def _heavy_tails(seed: int) -> Callable[[int], npt.NDArray[np.float64]]:
    """Return what draws so many samples of 64 features, 0 or more, that differ most along one direction."""
    rng = np.random.default_rng(seed)
    direction = np.abs(rng.normal(size=64))

    def draw(count: int) -> npt.NDArray[np.float64]:
        amounts = np.abs(rng.standard_t(3, size=(count, 1)))
        return np.maximum(rng.normal(size=(count, 64)) + amounts * direction, 0)

    return draw


@pytest.mark.parametrize("seed", [1, 8])
def test_poison_is_found_whatever_numbers_its_clusters_have_in_each_fold(seed: int) -> None:
    draw = _heavy_tails(seed)
    features, trusted = draw(900), draw(45)
    features[:60, 50:] += 4
    found = library.detect(
        features, np.arange(900) // 300, "activation_clustering", num_clusters=4, seed=seed,
        trusted_features=trusted, trusted_labels=np.arange(45) // 15,
    )  # fmt: skip
    assert found.details["suspicious_classes"] == ["0"]


@pytest.mark.parametrize("seed", range(5))
def test_few_trusted_images_of_many_features_make_no_class_suspicious(seed: int) -> None:
    # Whitened by the trusted samples, and counted by the same ones, two of these five were held poisoned.
    draw = _heavy_tails(seed)
    features, trusted = draw(600), draw(30)
    found = library.detect(
        features, np.arange(600) // 300, "activation_clustering",
        trusted_features=trusted, trusted_labels=np.arange(30) // 15,
    )  # fmt: skip
    assert not found.flagged.any()


def test_literal_removes_the_smallest_cluster_even_without_poison() -> None:
    result = detect(planted(poison=0).scenario, ActivationClusteringParams(variant="literal", num_clusters=3))
    assert result.flagged.sum() == min(result.details["cluster_sizes"])
    assert bool(result.scores[result.flagged].min() > result.scores[~result.flagged].max())


def test_backdoored_digits(backdoored: Backdoored) -> None:
    result = detect(backdoored.scenario, PAPER)
    assert result.details["trusted_used"] == len(backdoored.dataset.trusted)
    assert result.details["suspicious_classes"] == ["7"]
    assert result.flagged[backdoored.mask].float().mean() >= 0.95
    assert result.flagged[~backdoored.mask].float().mean() <= 0.02
    kept = backdoored.scenario.data.select(~result.flagged)
    model = backdoored.scenario.fit(kept)
    assert backdoored.success(backdoored.scenario.model) >= 0.9
    assert backdoored.success(model) <= 0.1
    assert backdoored.accuracy(model) >= backdoored.accuracy(backdoored.scenario.model) - 0.02


def test_clean_digits_are_left_alone(clean_scenario: Scenario) -> None:
    assert detect(clean_scenario, PAPER).flagged.float().mean() <= 0.02


@pytest.mark.parametrize("trusted", [None, np.zeros((20, 10))])
@pytest.mark.parametrize("different", [1, 2])
@pytest.mark.filterwarnings("ignore")
def test_a_class_with_fewer_different_samples_than_clusters_is_one(
    trusted: np.ndarray | None, different: int  # type: ignore[type-arg]
) -> None:  # fmt: skip
    features = np.zeros((60, 10))
    features[:30] += different - 1
    split = split_class(features, trusted, 5, seed=0)
    assert split.posterior.shape == (60, 1) and len(split.known) == (0 if trusted is None else 20)
    (cluster,) = by_size(split) if trusted is None else by_places(split, split.known.argmax(1))
    assert not cluster["suspicious"] and cluster["share"] == 1.0


@pytest.mark.parametrize("sizes", [(40, 60), (5, 30, 65), (1, 50, 20)])
def test_the_silhouette_is_scikit_learns(sizes: tuple[int, ...]) -> None:
    rng = np.random.default_rng(3)
    assigned = np.repeat(np.arange(len(sizes)), sizes)
    points = 1000 + rng.normal(size=(len(assigned), 4)) + assigned[:, None]
    assert silhouette(points, assigned, 0) == pytest.approx(silhouette_score(points, assigned), abs=1e-5)


def test_one_cluster_and_equal_points_have_no_silhouette() -> None:
    assert silhouette(np.random.default_rng(0).normal(size=(20, 3)), np.zeros(20, dtype=int), 0) == 0
    assert silhouette(np.ones((20, 3)), np.arange(20) % 2, 0) == 0


def test_a_sample_tells_the_silhouette_of_many() -> None:
    rng = np.random.default_rng(3)
    assigned = (np.arange(4000) % 5 == 0).astype(int)
    points = rng.normal(size=(4000, 5)) + 2 * assigned[:, None]
    assert silhouette(points, assigned, 0) == pytest.approx(silhouette_score(points, assigned), abs=0.02)
