"""Whether an attack did anything: what is ranked or recommended must have something to mend."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from safedl import catalog
from safedl.catalog import Category, Measure

Metrics = Mapping[str, float | None]
"""Final metrics of a run by name, as stored: `clean_accuracy`, `asr`, `clean_accuracy.<class>` ...; None was NaN."""

JUDGED_BY = (
    "clean_accuracy", "asr", "adversarial_accuracy", "sampled_accuracy", "test_images", "target_rate_clean_model",
    "attack_success_denominator",
)  # fmt: skip
"""All metrics that `effect` looks at: who reads a few of a run's from the store must read these."""

MIN_ASR = 0.5
"""A backdoor works from this attack success rate on."""
DEFAULT_DROP = 0.02
"""The fall that counts where the number of test images is not recorded."""

_MEASURES: dict[Category, Measure] = {
    "data_poisoning": "accuracy", "backdoor": "asr", "evasion": "adversarial", "privacy": "privacy",
}  # fmt: skip


@dataclass(frozen=True)
class Effect:
    """What an attack did: nothing is known unless `measured`; `reason` is a clause that says why."""

    measured: bool
    effective: bool
    reason: str

    @property
    def sentence(self) -> str:
        """The reason as a sentence of its own."""
        return f"{self.reason[0].upper()}{self.reason[1:]}."


def number(values: Mapping[str, Any], *names: str) -> float | None:
    """Return the first of `names` that has a finite number, None if there is none."""
    for name in names:
        value = values.get(name)
        if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
            return float(value)
    return None


def measure_of(attack: str, category: Category) -> Measure:
    """Return what shows that an attack worked: the catalog's word, or its category's for one no longer there.

    `privacy`, which nothing measures, for a category that is not there either: stored rows outlive catalogs.
    """
    spec = catalog.ATTACKS.get(attack)
    return spec.measure if spec else _MEASURES.get(category, "privacy")


def noise(first: float, second: float, images: float | None) -> float:
    """Return the difference of two accuracies in [0, 1], each on `images` test images, that chance explains.

    1.96 standard errors of a difference of two proportions with a pooled variance. The models share their test
    images, so the true error is smaller: the limit errs on the side of "no effect".
    """
    if not images:
        return DEFAULT_DROP
    pooled = (first + second) / 2
    return 1.96 * math.sqrt(max(0.0, 2 * pooled * (1 - pooled) / images))


def accuracy_before(measure: Measure, baseline: Metrics, attacked: Metrics) -> float | None:
    """Return the accuracy that an attack started from: of evasion on the images that it altered, where recorded."""
    sampled = number(attacked, "sampled_accuracy") if measure == "adversarial" else None
    return number(baseline, "clean_accuracy") if sampled is None else sampled


def effect(measure: Measure, baseline: Metrics, attacked: Metrics) -> Effect:
    """Say whether an attack worked: a backdoor by an ASR of at least 0.5, others by accuracy that fell beyond noise.

    An ASR that the clean model reaches without a trigger, because it takes most images for the target, shows nothing.
    `baseline`: the clean model's metrics; `attacked`: the attack's run. Evasion leaves the model as it is: there the
    accuracy on adversarial images is compared with the one on the same images before.
    """
    if measure == "privacy":
        return Effect(False, False, "not measured: privacy attacks are not simulated")
    if measure == "asr":
        asr = number(attacked, "asr")
        if asr is None:
            return Effect(False, False, "not measured: the run has no attack success rate")
        return _backdoor(asr, attacked)
    evasion = measure == "adversarial"
    before = accuracy_before(measure, baseline, attacked)
    after = number(attacked, "adversarial_accuracy" if evasion else "clean_accuracy")
    if before is None or after is None:
        return Effect(False, False, "not measured: an accuracy is missing")
    limit = noise(before, after, number(attacked, "test_images") or number(baseline, "test_images"))
    worked = before - after > limit
    where = " on adversarial images" if evasion else ""
    size = "more than" if worked else "a rise beyond" if after - before > limit else "within"
    return Effect(
        True, worked, f"{_verdict(worked)}: accuracy{where} {before:.3f} → {after:.3f}, {size} noise (±{limit:.3f})"
    )


def _backdoor(asr: float, attacked: Metrics) -> Effect:
    """Say whether a backdoor worked: where most images are taken for the target anyway, it has to add to that."""
    before, images = number(attacked, "target_rate_clean_model"), number(attacked, "attack_success_denominator")
    limit = 0.0 if before is None else noise(asr, before, images)
    if before is not None and asr >= MIN_ASR and asr - before <= limit:
        reason = f"{_verdict(False)}: ASR {asr:.3f}, within noise (±{limit:.3f}) of the {before:.3f} of these images "
        return Effect(True, False, reason + "that the clean model takes for the target without a trigger")
    worked = asr >= MIN_ASR
    return Effect(True, worked, f"{_verdict(worked)}: ASR {asr:.3f}, the limit is {MIN_ASR}")


def guesses(clean: Metrics) -> bool:
    """Say whether a clean model does no better than chance, so that no attack could show an effect on it.

    Judged by the mean of its classes' accuracies: that of a model with a single answer is chance, however many images
    a class has. Not known, so false, where these are not recorded.
    """
    named = [number(clean, name) for name in clean if name.startswith("clean_accuracy.")]
    shares = [share for share in named if share is not None]
    if len(shares) < 2:
        return False
    chance = 1 / len(shares)
    limit = noise(chance, chance, number(clean, "test_images")) / math.sqrt(2)  # chance itself has no error
    return sum(shares) / len(shares) - chance <= limit


def _verdict(worked: bool) -> str:
    return "the attack worked" if worked else "attack not effective"
