"""Module 5's scores of one defended run. `docs/scores.md` gives the reasons. Imports neither torch nor numpy."""

from __future__ import annotations

from dataclasses import dataclass

from safedl.catalog import Measure
from safedl.risk.effect import Metrics, effect, number

SCORE_VERSION = 2
"""Raised with every change of a formula; stored beside the scores."""


@dataclass(frozen=True)
class Scores:
    """The worth of a defense against an attack. None: not measured, or the attack did not work.

    `mitigation` in [-1, 1]: share of the attack's harm that is gone, negative if there is more of it;
    `cad` in [0, 1]: share of the attacked model's clean accuracy above chance that is kept;
    `cost` in [0, 1]: extra seconds / (extra seconds + baseline training seconds);
    `final` in [-1, 1]: 0 for doing nothing, 1 for an attack undone for free, -1 for a model that guesses.
    """

    mitigation: float | None
    cad: float | None
    cost: float | None
    final: float | None
    version: int = SCORE_VERSION

    def as_metrics(self) -> dict[str, float | None]:
        """Return the scores as metrics of a run: `score.mitigation`, `score.cad`, `score.cost`, `score.final` ..."""
        return {
            "score.mitigation": self.mitigation,
            "score.cad": self.cad,
            "score.cost": self.cost,
            "score.final": self.final,
            "score.version": float(self.version),
        }


def score(measure: Measure, baseline: Metrics, attacked: Metrics, defended: Metrics) -> Scores:
    """Return the scores of a defended run.

    `baseline`, `attacked`, `defended`: metrics of the clean model's run, of the attack's and of the defense's.
    `measure`: what shows that the attack worked. Nothing is scored where it did not (`effect`).
    """
    cad = _cad(baseline, attacked, defended)
    cost = _cost(number(baseline, "seconds"), number(defended, "seconds"))
    worked = effect(measure, baseline, attacked).effective
    mitigation = _mitigation(measure, baseline, attacked, defended) if worked else None
    if mitigation is None or cad is None or cost is None:
        return Scores(mitigation, cad, cost, None)
    # Below the attacked accuracy a poisoning attack's mitigation repeats what cad says already: counted once.
    gain = max(mitigation, 0.0) if measure == "accuracy" else mitigation
    # A model that guesses is worth no more than the attacked one, even if that one guessed too.
    if (number(defended, "clean_accuracy") or 0.0) <= _chance(baseline):
        gain = min(gain, 0.0)
    return Scores(mitigation, cad, cost, final_score(gain, cad, cost))


def undefended(measure: Measure, baseline: Metrics, attacked: Metrics) -> Scores:
    """Return the scores of the row `none`: the attacked model as it is, at no cost. Final is 0 if the attack worked."""
    return score(measure, baseline, attacked, {**attacked, "seconds": 0.0})


def final_score(mitigation: float, cad: float, cost: float) -> float:
    """Return the final score in [-1, 1] for a mitigation in [-1, 1], and cad and cost in [0, 1].

    worth = (1 + mitigation) * cad - 1, divided by 1 + 0.1 * cost where it is a gain.
    """
    worth = (1 + mitigation) * cad - 1
    return worth / (1 + 0.1 * cost) if worth > 0 else worth


def _mitigation(measure: Measure, baseline: Metrics, attacked: Metrics, defended: Metrics) -> float | None:
    """Return the published mitigation within [-1, 1]; the attack worked, so no denominator is 0."""
    name = {"asr": "asr", "adversarial": "adversarial_accuracy"}.get(measure, "clean_accuracy")
    clean, before, after = number(baseline, "clean_accuracy"), number(attacked, name), number(defended, name)
    if clean is None or before is None or after is None:
        return None
    if measure == "asr":
        value = published_asr_mitigation(before, after)
    elif measure == "adversarial":
        value = published_evasion_mitigation(before, after)
    else:
        value = published_poisoning_mitigation(clean, before, after)
    return min(max(value, -1.0), 1.0)


def _cad(baseline: Metrics, attacked: Metrics, defended: Metrics) -> float | None:
    before, after = number(attacked, "clean_accuracy"), number(defended, "clean_accuracy")
    if before is None or after is None:
        return None
    chance = _chance(baseline)
    if before <= chance or after >= before:
        return 1.0
    return max(0.0, (after - chance) / (before - chance))


def _chance(baseline: Metrics) -> float:
    """Return the accuracy of guessing; 0 where the number of classes is not recorded."""
    classes = sum(name.startswith("clean_accuracy.") for name in baseline)
    return 1 / classes if classes else 0.0


def _cost(baseline_seconds: float | None, extra_seconds: float | None) -> float | None:
    if baseline_seconds is None or extra_seconds is None:
        return None
    total = baseline_seconds + extra_seconds
    return extra_seconds / total if total > 0 else 0.0


# The published framework's formulas. Its mitigations are kept, within bounds and gated; the two others for comparison.


def published_asr_mitigation(before: float, after: float) -> float:
    """Return (ASR before - ASR after) / ASR before."""
    return (before - after) / before


def published_poisoning_mitigation(baseline: float, attacked: float, defended: float) -> float:
    """Return (defended - attacked accuracy) / (baseline - attacked accuracy)."""
    return (defended - attacked) / (baseline - attacked)


def published_evasion_mitigation(before: float, after: float) -> float:
    """Return the gain in accuracy on adversarial images as a share of what was missing."""
    return (after - before) / (1 - before)


def published_cad(attacked: float, defended: float) -> float:
    """Return max(0, 1 - (attacked - defended accuracy) / attacked accuracy)."""
    return max(0.0, 1 - (attacked - defended) / attacked)


def published_final(mitigation: float, cad: float, cost: float) -> float:
    """Return (0.8 * mitigation + 0.2 * cad) / (1 + 0.1 * cost)."""
    return (0.8 * mitigation + 0.2 * cad) / (1 + 0.1 * cost)
