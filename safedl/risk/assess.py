"""Severity, probability, visibility and the risk score of one attack, each with the sentence that explains it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from safedl.catalog import Category, Measure
from safedl.risk.effect import Metrics, accuracy_before, effect, number

Level = Literal["critical", "high", "medium", "low"]
Band = Literal["high", "medium", "low"]

FULL_DROP = 0.3
"""A fall in accuracy of 30 points is a severity of 1 (the published framework's constant)."""
ACCESS = {"white-box": 1.0, "gray-box": 0.9, "black-box": 0.8}
"""Probability by the access that the threat profile grants the attacker."""
OBSTACLE = 0.5
"""Factor where the threat profile says that the attacker cannot easily reach what the attack needs."""
INSPECTED_IMAGES = 20
"""A person who checks the training data is taken to look at so many images, drawn at random."""
VISIBLE_PERTURBATION = 0.15
"""A change of a pixel by this much of its range is plain to see (8/255, called imperceptible, counts 0.2)."""
VISIBLE_SIDE = 0.5
"""An opaque patch with half the image's side is plain to see."""
ROUNDING = 1e-9
"""A value that meets its limit does so up to this: (0.95 - 0.8) / 0.3 is a little less than 0.5."""


@dataclass(frozen=True)
class MeasuredAttack:
    """An attack as it was run.

    `metrics`: of its run on one seed; `params`: the attack's own parameters; `runs`: uids, the evidence.
    """

    name: str
    category: Category
    measure: Measure
    metrics: Metrics
    params: Mapping[str, Any] = field(default_factory=dict)
    runs: tuple[str, ...] = ()


@dataclass(frozen=True)
class RiskAssessment:
    """The risk of one attack: severity, probability and visibility in [0, 1], `risk_score` in [0, 2].

    `measured` is false where a metric is missing; `reasons` holds one sentence on the effect and one per value.
    """

    attack: str
    category: Category
    severity: float
    probability: float
    visibility: float
    risk_score: float
    effective: bool
    measured: bool
    reasons: tuple[str, ...]
    runs: tuple[str, ...] = ()

    @property
    def level(self) -> Level:
        """The score as a word: critical from 1.5, high from 1.0, medium from 0.5, low below."""
        return level(self.risk_score)


def risk_score(severity: float, probability: float, visibility: float) -> float:
    """Return severity * probability * (1 + (1 - visibility)), in [0, 2] for arguments in [0, 1]."""
    return severity * probability * (1 + (1 - visibility))


def level(score: float) -> Level:
    """Return a risk score in [0, 2] as a word."""
    score += ROUNDING
    return "critical" if score >= 1.5 else "high" if score >= 1.0 else "medium" if score >= 0.5 else "low"


def band(value: float) -> Band:
    """Return the row or column of the risk matrix for a severity or probability in [0, 1]: thirds."""
    value += ROUNDING
    return "high" if value >= 2 / 3 else "medium" if value >= 1 / 3 else "low"


def accuracy_severity(clean: float, attacked: float) -> float:
    """Return the severity in [0, 1] of a fall in accuracy: min((clean - attacked) / 0.3, 1), 0 for a rise."""
    return min(max((clean - attacked) / FULL_DROP, 0.0), 1.0)


def backdoor_severity(asr: float, clean: float, attacked: float) -> float:
    """Return the severity in [0, 1] of a backdoor: min(ASR + max(0, clean - attacked accuracy), 1).

    The published framework adds 1 - accuracy instead, which charges the model's own errors to the attack.
    """
    return min(asr + max(0.0, clean - attacked), 1.0)


def severity(attack: MeasuredAttack, baseline: Metrics) -> tuple[float, str]:
    """Return the severity in [0, 1] and its sentence; 0 where it was not measured."""
    clean = accuracy_before(attack.measure, baseline, attack.metrics)
    evasion = attack.measure == "adversarial"
    after = number(attack.metrics, "adversarial_accuracy" if evasion else "clean_accuracy")
    asr = number(attack.metrics, "asr")
    if attack.measure == "privacy" or clean is None or after is None or (attack.measure == "asr" and asr is None):
        return 0.0, "Severity 0: not measured."
    fell = f"accuracy {clean:.3f} → {after:.3f}{' on adversarial images' if evasion else ''}"
    if attack.measure == "asr" and asr is not None:
        value = backdoor_severity(asr, clean, after)
        return value, f"Severity {value:.2f}: ASR {asr:.3f}, plus what accuracy lost ({fell})."
    value = accuracy_severity(clean, after)
    return value, f"Severity {value:.2f}: {fell}; a fall of {FULL_DROP:.2f} or more counts 1."


def probability(category: Category, threat_model: Mapping[str, Any]) -> tuple[float, str]:
    """Return how likely an attempt is, in [0, 1], and its sentence.

    White-box access 1.0, gray-box 0.9, black-box 0.8, and 1.0 where the threat profile says nothing. Halved where it
    says that the way is barred: training data that are internal and clean for poisoning and backdoors, no exposed
    interface for evasion and privacy attacks.
    """
    stated = str(threat_model.get("model_access", "")).replace("_", "-")
    value = ACCESS.get(stated, 1.0)
    reason = f"{stated} access" if stated in ACCESS else "access is not stated, so the most capable attacker is assumed"
    on_training_data = category in ("data_poisoning", "backdoor")
    if on_training_data and threat_model.get("training_data_source") == "internal_clean":
        value, reason = value * OBSTACLE, f"{reason}; halved, the training data are internal and clean"
    elif not on_training_data and threat_model.get("interface_exposed") == "none":
        value, reason = value * OBSTACLE, f"{reason}; halved, no interface is exposed"
    return value, f"Probability {value:.2f}: {reason}."


def visibility(attack: MeasuredAttack) -> tuple[float, str]:
    """Return how easily the attack is noticed, in [0, 1], and its sentence; from what the run recorded.

    Evasion: how conspicuous the altered image is. Attacks on training data: the chance that one of 20 images drawn at
    random is poisoned and looks it (a wrong label always does). Backdoors are seen in the data or on the triggered
    image, whichever is plainer. What was not recorded counts as invisible, the cautious reading.
    """
    look, sight = _conspicuity(attack)
    if attack.category not in ("data_poisoning", "backdoor"):
        value = look or 0.0
        return (
            value,
            f"Visibility {value:.2f}: {sight or 'the size of the change is not recorded, taken as invisible'}.",
        )
    facts = {**attack.params, **attack.metrics}
    rate = _unit(number(facts, "poison_rate", "poison_fraction", "fraction_poison", "flip_rate"))
    if rate is None:
        value = look or 0.0
        return value, f"Visibility {value:.2f}: the poison rate is not recorded{f', {sight}' if sight else ''}."
    mislabelled = look is None or attack.params.get("label_mode") == "corrupted"
    chance = 1 - (1 - rate * (1.0 if mislabelled else look or 0.0)) ** INSPECTED_IMAGES
    reason = f"{rate:.1%} of the training images are poisoned{' and wrongly labelled' if mislabelled else ''}, " + (
        f"the chance to notice one among {INSPECTED_IMAGES} is {chance:.2f}"
    )
    value = max(chance, look or 0.0) if attack.category == "backdoor" else chance
    return value, f"Visibility {value:.2f}: {reason}{f'; {sight}' if sight else ''}."


def assess(attack: MeasuredAttack, baseline: Metrics, threat_model: Mapping[str, Any]) -> RiskAssessment:
    """Return the risk of a measured attack against the clean model's metrics `baseline`, under a threat profile."""
    seen = effect(attack.measure, baseline, attack.metrics)
    how_bad, why_bad = severity(attack, baseline)
    how_likely, why_likely = probability(attack.category, threat_model)
    how_visible, why_visible = visibility(attack)
    return RiskAssessment(
        attack=attack.name,
        category=attack.category,
        severity=how_bad,
        probability=how_likely,
        visibility=how_visible,
        risk_score=risk_score(how_bad, how_likely, how_visible),
        effective=seen.effective,
        measured=seen.measured,
        reasons=(seen.sentence, why_bad, why_likely, why_visible),
        runs=attack.runs,
    )


def ranked(assessments: Iterable[RiskAssessment]) -> tuple[RiskAssessment, ...]:
    """Return the assessments, attacks that worked first, the highest risk first, then by name."""
    return tuple(sorted(assessments, key=lambda a: (not a.effective, -a.risk_score, a.attack)))


def _conspicuity(attack: MeasuredAttack) -> tuple[float | None, str]:
    """Return how plain the change of one image is, in [0, 1], and its words; None where no change is recorded."""
    facts = {**attack.params, **attack.metrics}
    area = _unit(number(facts, "trigger_area", "trigger_size"))
    side = _unit(number(facts, "patch_size_ratio"))
    if area is None and side is not None and attack.category == "backdoor":
        area = side * side
    if area is not None:
        opacity = _opacity(facts)
        covered = (area * opacity) ** 0.5
        look = min(covered / VISIBLE_SIDE, 1.0)
        return look, f"the trigger covers {area:.1%} of the image at an opacity of {opacity:.2f} and counts {look:.2f}"
    change = _unit(number(facts, "perturbation_linf", "epsilon"))
    if change is not None:
        look = min(change / VISIBLE_PERTURBATION, 1.0)
        return look, f"pixels change by up to {change:.3f} of their range, which counts {look:.2f}"
    return None, ""


def _opacity(facts: Mapping[str, Any]) -> float:
    """Return the trigger's mean opacity over the pixels that it touches, in [0, 1]."""
    total, pixels = number(facts, "trigger_l1"), number(facts, "trigger_pixels")
    mean = total / pixels if total is not None and pixels else number(facts, "trigger_opacity", "blend_alpha")
    return 1.0 if mean is None else min(max(mean, 0.0), 1.0)


def _unit(value: float | None) -> float | None:
    return None if value is None else min(max(value, 0.0), 1.0)


def worst(seeds: Sequence[RiskAssessment]) -> RiskAssessment:
    """Return the gravest of an attack's assessments, one or more, one per seed; its first reason says of how many.

    A backdoor takes hold or does not: a mean over seeds would describe neither, and could hide one that took hold.
    It is effective if it is on any seed: the gravest may be one that cost accuracy, below the ASR that counts.
    """
    found = max(seeds, key=lambda a: (a.measured, a.risk_score, a.effective, a.severity))
    runs = tuple(dict.fromkeys(uid for a in seeds for uid in a.runs))
    if len(seeds) == 1:
        return found
    first, *others = found.reasons
    worked = sum(a.effective for a in seeds)
    told = f"{first[:-1]}; the worst of {len(seeds)} seeds, effective on {worked}."
    return replace(found, effective=worked > 0, runs=runs, reasons=(told, *others))
