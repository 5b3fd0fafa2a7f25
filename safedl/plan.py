"""What a profile expands to: a tree baseline -> attack -> defense and bound, once per seed. Knows nothing of torch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from safedl import catalog
from safedl.cache import digest
from safedl.catalog import Category, DefenseSpec
from safedl.errors import UsageError
from safedl.profile.schema import Profile

StageKind = Literal["baseline", "attack", "defense", "bound", "scan"]
PERFECT = "perfect_removal"
RANDOM = "random_removal"


@dataclass(frozen=True)
class Stage:
    """One node of a plan.

    `id` is unique in the plan and readable (`static_patch/activation_clustering@0`); `parent` is the id of the stage
    whose result it starts from; `after` is the detector whose number of removals a random bound repeats.
    `params` are its own resolved parameters; `chain` holds those of the whole chain
    (`training.*`, `attack.*`, `defense.*`); `recipe` is the hash of the chain without the seed.
    """

    id: str
    kind: StageKind
    seed: int
    parent: str | None = None
    after: str | None = None
    category: Category | None = None
    attack: str | None = None
    defense: str | None = None
    params: Mapping[str, Any] = field(default_factory=dict)
    chain: Mapping[str, Any] = field(default_factory=dict)
    recipe: str = ""

    @property
    def label(self) -> str:
        """What to call the stage in a tree: its own name, without its ancestors'."""
        name = self.defense or self.attack or self.kind
        return f"{name} (as many as {self.after.split('/')[1].split('@')[0]})" if self.after else name

    def own_params(self, prefix: str) -> dict[str, Any]:
        """Return the parameters of one link of the chain, `attack` or `defense`, under their own names."""
        start = f"{prefix}."
        return {key.removeprefix(start): value for key, value in self.chain.items() if key.startswith(start)}


@dataclass(frozen=True)
class Plan:
    """The stages of a profile, parents before children, and what was left out, with the reason."""

    stages: tuple[Stage, ...]
    skipped: tuple[str, ...] = ()

    def children(self, parent: str | None) -> list[Stage]:
        """Return the stages that start from `parent`."""
        return [s for s in self.stages if s.parent == parent]


def expand(
    profile: Profile,
    seeds: Sequence[int] | None = None,
    attacks: Iterable[str] = (),
    defenses: Iterable[str] = (),
) -> Plan:
    """Return the plan of a complete profile; `attacks` and `defenses` restrict it to those named.

    Raises `UsageError` for a restriction that the profile does not contain.
    """
    only_attacks = {catalog.attack(a).name for a in attacks}
    only_defenses = {catalog.defense(d).name for d in defenses}
    _check_selection(profile, only_attacks, only_defenses)
    stages: list[Stage] = []
    for seed in seeds if seeds is not None else [profile.training.seed]:
        stages += _expand_seed(profile, seed, only_attacks, only_defenses)
    return Plan(tuple(stages), profile.skipped)


def expand_scan(profile: Profile, seeds: Sequence[int] | None = None) -> Plan:
    """Return the plan of a profile's scan: one stage a seed, in which the data is examined as it came."""
    stages = []
    for seed in seeds if seeds is not None else [profile.training.seed]:
        own = profile.scan.model_dump(mode="json")
        chain = {**_base(profile), **_prefixed("scan", own)}
        stages.append(_stage(f"scan@{seed}", "scan", seed, chain, params=own))
    return Plan(tuple(stages))


def _base(profile: Profile) -> dict[str, Any]:
    """Return what every stage's chain begins with: data set, model and training."""
    dataset = profile.dataset.model_dump(mode="json", exclude={"root", "download"}) if profile.dataset else {}
    return {
        **_prefixed("dataset", dataset),
        **_prefixed("model", profile.model.model_dump(mode="json") if profile.model else {}),
        **_prefixed("training", profile.training.model_dump(mode="json", exclude={"seed"})),
    }


def _check_selection(profile: Profile, attacks: set[str], defenses: set[str]) -> None:
    chosen = {a.spec.name for a in profile.attacks}
    for name in sorted(attacks - chosen):
        raise UsageError(
            f"profile '{profile.name}' has no attack '{name}'; it has: {', '.join(sorted(chosen)) or 'none'}"
        )
    available = {d.spec.name for a in profile.attacks if not attacks or a.spec.name in attacks for d in a.defenses}
    against = f" against {', '.join(sorted(attacks))}" if attacks else ""
    for name in sorted(defenses - available):
        raise UsageError(
            f"profile '{profile.name}' has no defense '{name}'{against}; "
            f"it has: {', '.join(sorted(available)) or 'none'}"
        )


def _expand_seed(profile: Profile, seed: int, attacks: set[str], defenses: set[str]) -> list[Stage]:
    base = _base(profile)
    baseline = _stage(f"baseline@{seed}", "baseline", seed, base)
    stages = [baseline]
    for choice in profile.attacks:
        if attacks and choice.spec.name not in attacks:
            continue
        name, params = choice.spec.name, choice.params.model_dump(mode="json")
        chain = {**base, "attack": name, **_prefixed("attack", params)}
        root = _stage(
            f"{name}@{seed}", "attack", seed, chain,
            parent=baseline.id, category=choice.spec.category, attack=name, params=params,
        )  # fmt: skip
        stages.append(root)
        used = [d for d in choice.defenses if not defenses or d.spec.name in defenses]
        for defense in used:
            own = defense.params.model_dump(mode="json")
            stages.append(
                _child(
                    root,
                    "defense",
                    defense.spec.name,
                    {**chain, "defense": defense.spec.name, **_prefixed("defense", own)},
                    own,
                )
            )
        stages += _bounds(root, chain, [d.spec for d in used])
    return stages


def _bounds(root: Stage, chain: Mapping[str, Any], used: Sequence[DefenseSpec]) -> list[Stage]:
    """Perfect removal once per attack, random removal once per detector."""
    detectors = [spec.name for spec in used if spec.kind == "detect"]
    if not detectors:
        return []
    bounds = [_child(root, "bound", PERFECT, {**chain, "bound": PERFECT}, {})]
    for name in detectors:
        own = {"detector": name}
        after = f"{root.attack}/{name}@{root.seed}"
        bounds.append(_child(root, "bound", RANDOM, {**chain, "bound": RANDOM, "bound.detector": name}, own, after))
    return bounds


def _child(
    root: Stage,
    kind: StageKind,
    name: str,
    chain: Mapping[str, Any],
    params: Mapping[str, Any],
    after: str | None = None,
) -> Stage:
    suffix = f"{name}:{params['detector']}" if after else name
    return _stage(
        f"{root.attack}/{suffix}@{root.seed}", kind, root.seed, chain,
        parent=root.id, after=after, category=root.category, attack=root.attack, defense=name, params=params,
    )  # fmt: skip


def _stage(id: str, kind: StageKind, seed: int, chain: Mapping[str, Any], **rest: Any) -> Stage:
    return Stage(id=id, kind=kind, seed=seed, chain=chain, recipe=digest([kind, chain]), **rest)


def _prefixed(prefix: str, values: Mapping[str, Any]) -> dict[str, Any]:
    return {f"{prefix}.{key}": value for key, value in values.items()}
