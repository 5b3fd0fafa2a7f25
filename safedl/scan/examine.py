"""The scan of a data set: detectors, a second model without what they point at, and what both come to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from torch import Tensor

from safedl.data.split import by_class
from safedl.defenses import trusted_space
from safedl.defenses.contract import Scenario
from safedl.errors import UsageError
from safedl.scan.opinions import BACKDOOR, FOLDS, Opinion, ask

MOVED = 0.8
"""Share of a group that a model trained without it must take for other classes, where no trusted image can tell."""
NOISE = 0.05
"""Estimated share of wrong labels from which a set is suspicious without trusted images: hard ones look wrong too."""
EXCESS = 0.01
"""Share of samples with contradicted labels, beyond the false alarms, from which it is with trusted images."""
DEVIATIONS = 3.0
"""Of the false-alarm rate as the trusted images tell it: what chance may add to it."""
MANY = 0.05
"""Excess from which wrong labels are called poison."""
LEAST = 5
"""Images from which a group is one: fewer are outliers, as every class has some."""
PROBE = 50
"""Images of each class that triggers are reconstructed on, where there is no trusted data."""


@dataclass(frozen=True)
class Group:
    """Samples that were found together, with what speaks against them.

    `members`: int64 positions; `target`: the class that a trigger calls, or None for wrong labels; `certain` is
    whether this alone makes the set poisoned; `sentence` says why, for people.
    """

    members: Tensor
    target: int | None
    certain: bool
    sentence: str


@dataclass(frozen=True)
class Examination:
    """What a scan found in a data set.

    `opinions` in the order they were asked; `proposed`: int64 [N], the class that a model trained without the
    suspects gives each sample, or -1 where it was not asked.
    """

    groups: tuple[Group, ...]
    opinions: tuple[Opinion, ...]
    proposed: Tensor
    trusted: bool
    dismissed: tuple[str, ...] = field(default=())
    """Sentences on what was looked into and found harmless."""

    @property
    def target_classes(self) -> list[int]:
        """The classes that triggers call, the largest group first."""
        return [group.target for group in self.groups if group.target is not None]

    @property
    def suspects(self) -> Tensor:
        """Positions int64 [S] of all samples in groups, by group."""
        nothing = torch.zeros(0, dtype=torch.int64)
        return torch.cat([group.members for group in self.groups]) if self.groups else nothing

    @property
    def unsuspected(self) -> Tensor:
        """A mask bool [N] of the samples that are in no group."""
        clean = torch.ones(len(self.proposed), dtype=torch.bool)
        clean[self.suspects] = False
        return clean

    @property
    def verdict(self) -> str:
        """`poisoned`, `suspicious` or `no evidence`."""
        if any(group.certain for group in self.groups):
            return "poisoned"
        return "suspicious" if self.groups else "no evidence"


@dataclass(frozen=True, eq=False)
class _Pointed:
    """A class that detectors point at.

    `positions`: int64 [n] of its samples; `inside`: bool [n], what is flagged; `nearness`: float [n], how far a sample
    lies on their side; `by`: the detectors' names.
    """

    label: int
    positions: Tensor
    inside: Tensor
    nearness: Tensor
    by: tuple[str, ...]

    def moved(self, proposed: Tensor) -> float:
        """Return the share of what is flagged that a model (its classes int64 [N]) takes for other classes."""
        return float((proposed[self.positions[self.inside]] != self.label).float().mean())

    @property
    def near(self) -> Tensor:
        """Positions of what is flagged and of that half of the rest which lies nearer to it: none is surely clean."""
        return self.positions[self.inside | (self.nearness > self.nearness[~self.inside].median())]


def examine(scenario: Scenario, rate: float) -> Examination:
    """Examine a training set; `scenario.model` was trained on all of it.

    Backdoors show in the features of their class, wrong labels in the predictions of models that have not seen the
    sample. With trusted images a class is suspicious if a group of it holds none of them. Without, a group counts if
    a model trained without it takes most of it for other classes (after Chen et al. 2018, exclusionary
    reclassification). Raises `UsageError` if there are trusted images, but too few of a class.
    """
    trusted = len(scenario.trusted) > 0
    if trusted and not trusted_space.usable(scenario):
        counts = torch.bincount(scenario.trusted.labels, minlength=scenario.num_classes)
        least = int(counts.argmin())
        raise UsageError(
            f"trusted images: {int(counts[least])} of class '{scenario.classes[least]}'; "
            f"give at least {2 * trusted_space.FOLDS} of each class, or none at all"
        )
    backdoor = [ask(scenario, name, rate, trusted=trusted) for name in BACKDOOR]
    labels = ask(scenario, "data_cleaning", rate, trusted=trusted, folds=FOLDS)
    # Without trusted images the other two rank, but cannot tell whether there is anything to find.
    judges = backdoor if trusted else backdoor[:1]
    pointed = _point(scenario, judges)
    candidates = torch.stack([o.flagged for o in (*judges, labels)]).any(0)
    proposed = _reclassify(scenario, candidates)
    pointed, proposed = _complete(scenario, pointed, candidates, proposed, rate)
    groups, dismissed = _backdoor_groups(scenario, pointed, proposed, trusted)
    taken = torch.zeros(len(candidates), dtype=torch.bool)
    for group in groups:
        taken[group.members] = True
    groups += _label_groups(scenario, labels, taken, rate, trusted)
    opinions = [*backdoor, labels]
    if trusted and groups:
        opinions.append(_influence(scenario, candidates, rate))
    return Examination(tuple(groups), tuple(opinions), proposed, trusted, tuple(dismissed))


def probe(scenario: Scenario, found: Examination) -> Scenario:
    """Return the scenario with images to reconstruct triggers on: the trusted ones, else some without a suspect."""
    if found.trusted:
        return scenario
    rest = scenario.data.select(found.unsuspected)
    chosen = by_class(rest.labels, dict.fromkeys(range(scenario.num_classes), PROBE), scenario.rng("probe"))
    return replace(scenario, trusted=rest.select(chosen))


def _reclassify(scenario: Scenario, candidates: Tensor) -> Tensor:
    """Return what a model trained without the candidates takes them for, int64 [N]; -1 for all others."""
    proposed = torch.full((len(candidates),), -1)
    rest = scenario.data.select(~candidates)
    if candidates.any() and torch.bincount(rest.labels).count_nonzero() > 1:
        model = scenario.fit(rest, phase="train without suspects")
        proposed[candidates] = scenario.bench.predict(model, scenario.data.images[candidates]).argmax(1)
    return proposed


def _point(scenario: Scenario, judges: Sequence[Opinion]) -> list[_Pointed]:
    """Return what the judges point at, class by class."""
    found = []
    for label in range(scenario.num_classes):
        own = scenario.data.labels == label
        pointing = [o for o in judges if label in o.classes and bool((o.flagged & own).any())]
        if not pointing:
            continue
        positions = own.nonzero().flatten()
        inside = torch.stack([o.flagged for o in pointing]).any(0)[own]
        if LEAST <= int(inside.sum()) <= len(inside) - LEAST:
            nearness = towards(scenario.features()[own], inside)
            found.append(_Pointed(label, positions, inside, nearness, tuple(o.detector for o in pointing)))
    return found


def towards(features: Tensor, inside: Tensor) -> Tensor:
    """Return how far samples [n, D] lie on the side of those `inside` (bool [n]), float [n]: a linear discriminant.

    Its covariance is shrunk after Ledoit and Wolf.
    """
    border = LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto").fit(features.numpy(), inside.numpy())
    return torch.from_numpy(border.decision_function(features.numpy())).float()


def _complete(
    scenario: Scenario, pointed: Sequence[_Pointed], candidates: Tensor, proposed: Tensor, rate: float
) -> tuple[list[_Pointed], Tensor]:
    """Return what is pointed at with what detectors left outside, and what samples are taken for, int64 [N].

    Clusters leave some of their poison out, and ten images keep a backdoor alive. So where a group turned out to be
    of other classes, a model is trained without the half of the class that lies nearer to it, too: what this takes
    for another class joins, if it lies further on the group's side than all but the share `rate` of what it does not.
    """
    foreign = [found for found in pointed if found.moved(proposed) >= MOVED]
    if not foreign:
        return list(pointed), proposed
    wider = candidates.clone()
    for found in foreign:
        wider[found.near] = True
    again = _reclassify(scenario, wider)
    completed = []
    for found in pointed:
        elsewhere = again[found.positions] != found.label
        usual = found.nearness[~found.inside & ~elsewhere]
        if found in foreign and len(usual):
            joins = elsewhere & (found.nearness > usual.quantile(1 - rate))
            found = replace(found, inside=found.inside | joins)  # noqa: PLW2901
        completed.append(found)
    return completed, torch.where(again >= 0, again, proposed)


def _backdoor_groups(
    scenario: Scenario, pointed: Sequence[_Pointed], proposed: Tensor, trusted: bool
) -> tuple[list[Group], list[str]]:
    groups, dismissed = [], []
    for found in pointed:
        label, name = found.label, scenario.classes[found.label]
        members, moved = found.positions[found.inside], found.moved(proposed)
        line = (
            f"{len(members)} images of class '{name}' ({len(members) / len(found.positions):.1%} of it) stand apart in "
            f"feature space ({', '.join(found.by)})"
        )
        if trusted:
            line += "; almost no trusted image of the class lies there"
        if moved >= MOVED:
            line += f". A model trained without them takes {moved:.0%} of them for other classes"
        elif not trusted:
            stay = f"a model trained without them still gives {1 - moved:.0%} of them this class"
            dismissed.append(f"{line}, but {stay}.")
            continue
        groups.append(Group(members, label, len(found.by) > 1 or moved >= MOVED, f"{line}."))
    return sorted(groups, key=lambda group: -len(group.members)), dismissed


def _label_groups(scenario: Scenario, opinion: Opinion, taken: Tensor, rate: float, trusted: bool) -> list[Group]:
    flagged = opinion.flagged & ~taken
    rest = int((~taken).sum())
    share = float(flagged.sum()) / max(rest, 1)
    members = flagged.nonzero().flatten()
    if trusted:
        excess = share - rate
        if excess < max(EXCESS, DEVIATIONS * (rate / len(scenario.trusted)) ** 0.5):
            return []
        sentence = (
            f"{share:.1%} of the labels contradict models that have not seen the image, where {rate:.1%} of trusted "
            "images do."
        )
        return [Group(members, None, excess >= MANY, sentence)]
    noise = float(opinion.details["estimated_noise"])
    if noise < NOISE or not len(members):
        return []
    sentence = f"About {noise:.1%} of the labels say nothing about their image; {len(members)} of them can be named."
    return [Group(members, None, False, sentence)]


def _influence(scenario: Scenario, candidates: Tensor, rate: float) -> Opinion:
    """Ask which samples harm trusted images, of a model trained without the candidates."""
    rest = scenario.data.select(~candidates)
    judge = replace(scenario, clean_model=lambda: scenario.fit(rest, phase="train without suspects"))
    return ask(judge, "influence_functions", rate)
