from __future__ import annotations

import numpy as np
import pytest

from safedl.risk.effect import effect, guesses


@pytest.mark.parametrize(
    ("after", "size", "worked"), [(0.98, 500, False), (0.96, 500, True), (0.985, 10_000, True), (1.0, 500, False)]
)
def test_a_fall_in_accuracy_counts_above_the_noise_of_the_test_set(after: float, size: int, worked: bool) -> None:
    found = effect("accuracy", {"clean_accuracy": 0.99, "test_images": float(size)}, {"clean_accuracy": after})
    assert found.effective is worked
    assert f"{after:.3f}" in found.sentence
    assert ("more than noise" in found.reason) is worked


@pytest.mark.parametrize(("asr", "worked"), [(0.5, True), (0.49, False)])
def test_a_backdoor_counts_from_half(asr: float, worked: bool) -> None:
    found = effect("asr", {"clean_accuracy": 0.99, "test_images": 500.0}, {"clean_accuracy": 0.5, "asr": asr})
    assert found.effective is worked


@pytest.mark.parametrize(("without", "worked"), [(0.0, True), (0.5, True), (0.95, False), (1.0, False)])
def test_a_backdoor_counts_beyond_what_the_clean_model_takes_for_the_target(without: float, worked: bool) -> None:
    attacked = {"asr": 1.0, "target_rate_clean_model": without, "attack_success_denominator": 30.0}
    found = effect("asr", {"clean_accuracy": 0.7, "test_images": 100.0}, attacked)
    assert found.measured
    assert found.effective is worked
    assert ("without a trigger" in found.sentence) is not worked


def test_noise_matches_repeated_draws() -> None:
    """Two equal models differ by more than the stated noise in about 5 % of draws, half of these being falls."""
    draws = np.random.default_rng(0).binomial(500, 0.9, (4000, 2)) / 500
    falls = [
        effect("accuracy", {"clean_accuracy": a, "test_images": 500.0}, {"clean_accuracy": b}).effective
        for a, b in draws.tolist()
    ]
    assert 0.015 < sum(falls) / len(falls) < 0.035


def test_evasion_is_compared_on_the_images_it_altered() -> None:
    """Chance alone explains these falls: the images drawn are harder, and few."""
    baseline = {"clean_accuracy": 0.95, "test_images": 500.0}
    harder = {"adversarial_accuracy": 0.80, "sampled_accuracy": 0.80, "test_images": 100.0}
    assert not effect("adversarial", baseline, harder).effective
    none_drawn = {"adversarial_accuracy": 0.85, "test_images": 20.0}
    assert not effect("adversarial", {**baseline, "test_images": 10_000.0}, none_drawn).effective
    few = {"adversarial_accuracy": 0.86, "sampled_accuracy": 0.92, "test_images": 50.0}
    assert not effect("adversarial", baseline, few).effective
    assert effect("adversarial", baseline, {**few, "adversarial_accuracy": 0.6}).effective


def test_a_rise_is_called_a_rise() -> None:
    found = effect("accuracy", {"clean_accuracy": 0.90, "test_images": 500.0}, {"clean_accuracy": 0.96})
    assert not found.effective
    assert "a rise beyond noise" in found.reason


@pytest.mark.parametrize(
    ("shares", "images", "guessing"),
    [
        ((1.0, 0.0, 0.0, 0.0), 10_000.0, True),  # one answer, whatever share of the images has it
        ((0.25, 0.30, 0.25, 0.30), 400.0, True),
        ((0.25, 0.40, 0.25, 0.40), 400.0, False),
        ((0.7, 0.7), 40.0, False),
        ((0.98, 0.97), None, False),
        ((), 400.0, False),
    ],
)
def test_a_clean_model_that_guesses(shares: tuple[float, ...], images: float | None, guessing: bool) -> None:
    clean = {"clean_accuracy": 0.9, "test_images": images, **{f"clean_accuracy.{i}": s for i, s in enumerate(shares)}}
    assert guesses(clean) is guessing
