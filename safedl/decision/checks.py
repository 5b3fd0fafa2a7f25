"""The automatic checks of the deployment checklist: each a function of the facts and the profile's thresholds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from safedl.catalog import ATTACKS
from safedl.catalog.settings import AcceptanceSettings
from safedl.catalog.spec import CATEGORY_ALIASES
from safedl.decision.facts import AttackOutcome, ProfileFacts
from safedl.risk.assess import ROUNDING
from safedl.risk.effect import number
from safedl.threats import CATEGORIES

Verdict = Literal["pass", "fail", "not applicable"]

UNDEFENDED = "undefended"


def exceeds(value: float, limit: float) -> bool:
    """Say whether a value lies above its limit; one that meets it exactly does not."""
    return value > limit + ROUNDING


@dataclass(frozen=True)
class Check:
    """The answer to one check: a sentence, and the uids of the runs that it rests on."""

    verdict: Verdict
    detail: str
    evidence: tuple[str, ...] = ()


def simulations(threat: str) -> tuple[str, ...]:
    """Return the attacks of the catalog that show a threat category of the profile, in any spelling."""
    named = CATEGORIES.get(threat)
    category = CATEGORY_ALIASES.get(threat, threat)
    of_category = [name for name, spec in ATTACKS.items() if spec.category == category]
    return tuple(dict.fromkeys((*(named.simulated if named else ()), *of_category)))


def threats(threat_model: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the threat categories that a profile names."""
    named = threat_model.get("threat_categories")
    return tuple(str(t) for t in named) if isinstance(named, list | tuple) else ()


def threats_covered(facts: ProfileFacts, acceptance: AcceptanceSettings) -> Check:
    """Every threat that can be simulated has an attack that was run, and altered something."""
    needed = [t for t in threats(facts.threat_model) if simulations(t)]
    if not needed:
        return Check("not applicable", "the profile names no threat that can be simulated")
    ran = [p for p in facts.planned if p.kind == "attack" and p.status == "completed"]
    done = [p for p in ran if not p.idle]
    missing = [t for t in needed if not {p.attack for p in done} & set(simulations(t))]
    if missing:
        theirs = {attack for threat in missing for attack in simulations(threat)}
        idle = ", ".join(dict.fromkeys(p.attack for p in ran if p.idle and p.attack in theirs))
        why = "by a rate or budget of 0, or a change that no pixel shows"
        note = f" ({idle}: nothing was altered, {why})" if idle else ""
        return Check("fail", f"no attack was run for: {', '.join(missing)}{note}")
    evidence = tuple(p.uid for p in done if p.uid and any(p.attack in simulations(t) for t in needed))
    return Check("pass", f"an attack was run for each of: {', '.join(needed)}", evidence)


def attacks_run(facts: ProfileFacts, acceptance: AcceptanceSettings) -> Check:
    """Every attack of the profile was run, on every seed, and measured."""
    planned = [p for p in facts.planned if p.kind == "attack"]
    if not planned:
        return Check("fail", "the profile has no attack to run")
    open_stages = [p.stage for p in planned if p.status != "completed"]
    if open_stages:
        return Check("fail", f"not completed: {', '.join(open_stages)}")
    if facts.guessing:
        seeds = f"{len(facts.guessing)} of {sum(p.kind == 'baseline' for p in facts.planned)} seeds"
        text = f"the clean model does no better than chance on {seeds}, so no attack could show an effect"
        return Check("fail", text, facts.guessing)
    unmeasured = [o.risk.attack for o in facts.outcomes if not o.risk.measured]
    if unmeasured:
        return Check("fail", f"run, but not measured: {', '.join(unmeasured)}")
    return Check("pass", f"{len(planned)} of {len(planned)} attack runs completed", _uids(facts, "attack"))


def runs_completed(facts: ProfileFacts, acceptance: AcceptanceSettings) -> Check:
    """Every planned run completed: baselines, attacks, defenses, bounds."""
    missing = [f"{p.stage} ({p.status})" for p in facts.planned if p.status != "completed"]
    total = len(facts.planned)
    if missing or not total:
        return Check("fail", f"{total - len(missing)} of {total} completed; missing: {_few(missing) or 'everything'}")
    return Check("pass", f"{total} of {total} planned runs completed")


def residual_risk(facts: ProfileFacts, acceptance: AcceptanceSettings) -> Check:
    """No attack that worked leaves a risk above the threshold after its best defense."""
    found = [(o.residual.risk_score, o) for o in facts.outcomes if o.risk.effective]
    return _largest("residual risk", found, acceptance.max_residual_risk)


def attack_success(facts: ProfileFacts, acceptance: AcceptanceSettings) -> Check:
    """No backdoor keeps an ASR above the threshold after its best defense, on any seed."""
    found = [(max(rates), o) for o in facts.outcomes if (rates := _of_seeds(o, "asr"))]
    return _largest("ASR", found, acceptance.max_asr)


def accuracy_drop(facts: ProfileFacts, acceptance: AcceptanceSettings) -> Check:
    """No model that would ship has lost more clean accuracy than the threshold allows."""
    if number(facts.baseline, "clean_accuracy") is None:
        return Check("fail", "the clean model's accuracy was not measured")
    accuracies = [(number(o.clean, "clean_accuracy"), number(o.final, "clean_accuracy"), o) for o in facts.outcomes]
    found = [(before - after, o) for before, after, o in accuracies if before is not None and after is not None]
    return _largest("fall in clean accuracy", found, acceptance.max_accuracy_drop)


def robust_accuracy(facts: ProfileFacts, acceptance: AcceptanceSettings) -> Check:
    """Attacked images, triggered or adversarial, are still classified right often enough, on every seed.

    A model that would ship against several attacks is judged by all of them together, image by image.
    """
    if facts.unread:
        few = _few(list(facts.unread))
        mend = "safedl db reindex, then safedl resume, measures them again"
        return Check("fail", f"the result.json of these runs cannot be read: {few}; {mend}", facts.unread)
    found = [
        (min(values), f"{o.risk.attack}, {_after(o)}", o.evidence)
        for o in facts.outcomes
        if (values := _of_seeds(o, "adversarial_accuracy", "robust_accuracy"))
    ]
    found += [
        (
            w.accuracy,
            f"the worst of {', '.join(w.attacks)}, {f'after {w.defense}' if w.defense else UNDEFENDED}",
            w.runs,
        )
        for w in facts.together
    ]
    if not found:
        return Check("not applicable", "no attack of the profile alters images at test time")
    accuracy, where, evidence = min(found, key=lambda row: row[0])
    low = accuracy < acceptance.min_robust_accuracy
    shown = _apart(accuracy, acceptance.min_robust_accuracy)
    text = f"smallest accuracy on attacked images {shown} ({where})"
    return Check(
        "fail" if low else "pass", f"{text}, at least {acceptance.min_robust_accuracy:g} is asked for", evidence
    )


def privacy_budget(facts: ProfileFacts, acceptance: AcceptanceSettings) -> Check:
    """Differentially private training spent no more than its target ε."""
    if not facts.budgets:
        return Check("not applicable", "no differentially private training was run")
    evidence = tuple(b.uid for b in facts.budgets)
    unknown = [b.uid for b in facts.budgets if b.spent is None]
    if unknown:
        return Check("fail", f"the ε spent is not recorded for: {', '.join(unknown)}", tuple(unknown))
    over = [b for b in facts.budgets if b.spent is not None and b.spent > b.target]
    if over:
        return Check(
            "fail", "; ".join(f"ε {b.spent:.3f} spent of {b.target:g}" for b in over), tuple(b.uid for b in over)
        )
    largest = max(b.spent or 0.0 for b in facts.budgets)
    return Check("pass", f"at most ε {largest:.3f} spent, within every target", evidence)


def versions_recorded(facts: ProfileFacts, acceptance: AcceptanceSettings) -> Check:
    """Every completed run says which code and which data it used."""
    done = [p for p in facts.planned if p.status == "completed"]
    missing = [p.stage for p in done if not p.code or not p.data]
    if missing or not done:
        return Check("fail", f"code or data version missing: {_few(missing) or 'no run completed'}")
    codes = sorted({p.code for p in done if p.code})
    prints = sorted({p.data[:12] for p in done if p.data})
    return Check("pass", f"code {', '.join(codes)}; data {_few(prints)}")


AUTOMATIC: dict[str, tuple[str, Callable[[ProfileFacts, AcceptanceSettings], Check]]] = {
    "threats_covered": ("Threats covered", threats_covered),
    "attacks_run": ("Attacks run", attacks_run),
    "runs_completed": ("Every planned run completed", runs_completed),
    "residual_risk": ("No residual risk above the threshold", residual_risk),
    "max_asr": ("Attack success rate within the threshold", attack_success),
    "accuracy_drop": ("Clean accuracy kept", accuracy_drop),
    "robust_accuracy": ("Accuracy on attacked images", robust_accuracy),
    "dp_budget": ("Privacy budget kept", privacy_budget),
    "versions_recorded": ("Data and code versions recorded", versions_recorded),
}
"""By id: title and check, in the order of the checklist."""


def _largest(name: str, found: list[tuple[float, AttackOutcome]], limit: float) -> Check:
    if not found:
        return Check("not applicable", f"no attack of the profile has {'an' if name == 'ASR' else 'a'} {name}")
    over = [(value, o) for value, o in found if exceeds(value, limit)]
    shown = sorted(over or [max(found, key=lambda pair: pair[0])], key=lambda pair: -pair[0])
    text = ", ".join(f"{_apart(value, limit)} ({o.risk.attack}, {_after(o)})" for value, o in shown)
    evidence = tuple(uid for _, o in shown for uid in o.evidence)
    return Check("fail" if over else "pass", f"{'' if over else 'largest '}{name} {text}, limit {limit:g}", evidence)


def _apart(value: float, limit: float) -> str:
    """Return a value with three decimals, or as many more as it takes to tell it from a limit that it does not meet."""
    decimals = next((n for n in range(3, 10) if round(value, n) != round(limit, n)), 3)
    return f"{value:.{decimals}f}"


def _after(outcome: AttackOutcome) -> str:
    if outcome.best:
        ran, seeds = len(outcome.best.results), len(outcome.shipped)
        part = f", which completed on {ran} of {seeds} seeds" if ran < seeds else ""
        return f"after {outcome.best.defense}{part}"
    # Below the limits of an effect no defense has a score: the user should know why none is counted.
    return UNDEFENDED if outcome.risk.effective else f"{UNDEFENDED}: too weak an attack to rank defenses against"


def _of_seeds(outcome: AttackOutcome, *names: str) -> list[float]:
    """Return a metric of the model that would ship, seed by seed."""
    return [value for metrics in outcome.shipped if (value := number(metrics, *names)) is not None]


def _uids(facts: ProfileFacts, kind: str) -> tuple[str, ...]:
    return tuple(p.uid for p in facts.planned if p.kind == kind and p.uid)


def _few(items: list[str], limit: int = 5) -> str:
    return ", ".join(items[:limit]) + (f" and {len(items) - limit} more" if len(items) > limit else "")
