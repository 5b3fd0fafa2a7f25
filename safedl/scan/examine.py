"""The scan of a data set: detectors, a second model without what they point at, and what both come to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from safedl.data.imageset import ImageSet
from safedl.data.split import by_class
from safedl.defenses import trusted_space
from safedl.defenses.contract import Scenario
from safedl.errors import UsageError
from safedl.scan import traits
from safedl.scan.opinions import BACKDOOR, FOLDS, Opinion, ask

TRAIT = "trait"
"""Stands for the detectors of a sample that none of them flags: it carries what a group has in common."""
MOVED = 0.8
"""Share of a group that a model trained without it takes for other classes, from which it is said to be of others."""
CALLS = 0.5
"""Share of other images that what a group has in common must send to its class, to be called a trigger."""
CONTRADICTED = 0.5
"""Share of a group whose labels contradict unseeing models, from which it is wrong labels and no trigger's work."""
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
WHOLE = 0.9
"""Share of a class from which a group that leaves fewer than `LEAST` is all of it."""
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

    `opinions` in the order they were asked; `samples`: how many the set has; `trusted`: whether there was trusted data.
    """

    groups: tuple[Group, ...]
    opinions: tuple[Opinion, ...]
    samples: int
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
        clean = torch.ones(self.samples, dtype=torch.bool)
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

    `positions`: int64 [n] of its samples; `flagged`: bool [n], what they flag; `inside`: bool [n], what is taken for
    the group; `by`: the detectors' names; `moved`, `calls`, `contradicted`: shares in [0, 1], see `MOVED`, `CALLS`,
    `CONTRADICTED`, and None where it could not be tried.
    """

    label: int
    positions: Tensor
    flagged: Tensor
    inside: Tensor
    by: tuple[str, ...]
    moved: float = 0.0
    calls: float | None = None
    contradicted: float = 0.0

    @property
    def members(self) -> Tensor:
        """Positions of the group."""
        return self.positions[self.inside]

    @property
    def is_whole(self) -> bool:
        """Whether it leaves too few of the class to be told from them."""
        return int((~(self.flagged & self.inside)).sum()) < LEAST

    @property
    def is_trigger(self) -> bool:
        """Whether what they have in common calls their class."""
        return self.calls is not None and self.calls >= CALLS


def examine(scenario: Scenario, rate: float) -> Examination:
    """Examine a training set; `scenario.model` was trained on all of it.

    Backdoors show in the features of their class, wrong labels in the predictions of models that have not seen the
    sample. With trusted images a class is suspicious if a group of it holds none of them. Without, a group counts if
    what its images have in common calls their class from other images, too (`safedl.scan.traits`).
    Raises `UsageError` if there are trusted images, but too few of a class.
    """
    trusted = len(scenario.trusted) > 0
    check_trusted(scenario.trusted, scenario.classes)
    backdoor = [ask(scenario, name, rate, trusted=trusted) for name in BACKDOOR]
    labels = ask(scenario, "data_cleaning", rate, trusted=trusted, folds=FOLDS)
    # Without trusted images the other two rank, but cannot tell whether there is anything to find.
    judges = backdoor if trusted else backdoor[:1]
    candidates = torch.stack([o.flagged for o in (*judges, labels)]).any(0)
    proposed = _reclassify(scenario, candidates)
    means = traits.class_means(scenario.data, ~candidates, scenario.num_classes)
    pointed = [_try(scenario, found, proposed, ~candidates, means, labels, rate) for found in _point(scenario, judges)]
    groups, dismissed = _backdoor_groups(scenario, pointed, trusted)
    taken = torch.zeros(len(candidates), dtype=torch.bool)
    for group in groups:
        taken[group.members] = True
    groups += _label_groups(scenario, labels, taken, rate, trusted)
    opinions = [*backdoor, labels]
    if trusted and groups:
        opinions.append(_influence(scenario, candidates, rate))
    return Examination(tuple(groups), tuple(opinions), len(scenario.data), trusted, tuple(dismissed))


def check_trusted(trusted: ImageSet, classes: Sequence[str]) -> None:
    """Raise `UsageError` if there are trusted images, but too few of a class."""
    label, count = trusted_space.rarest(trusted, len(classes))
    if len(trusted) and count < trusted_space.FEWEST:
        raise UsageError(
            f"trusted images: {count} of class '{classes[label]}'; "
            f"give at least {trusted_space.FEWEST} of each class, or none at all"
        )


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
    """Return what the judges point at, class by class.

    Nearly all of a class may be poison, as where every image of it got a wave. Where that seems to hold of most
    classes, it is the trusted images that differ.
    """
    found = []
    for label in range(scenario.num_classes):
        own = scenario.data.labels == label
        pointing = [o for o in judges if label in o.classes and bool((o.flagged & own).any())]
        if not pointing:
            continue
        positions = own.nonzero().flatten()
        flagged = torch.stack([o.flagged for o in pointing]).any(0)[own]
        pointed = _Pointed(label, positions, flagged, flagged, tuple(o.detector for o in pointing))
        if int(flagged.sum()) >= LEAST and (not pointed.is_whole or float(flagged.float().mean()) >= WHOLE):
            found.append(pointed)
    most = 2 * sum(pointed.is_whole for pointed in found) > scenario.num_classes
    return [pointed for pointed in found if not (most and pointed.is_whole)]


def _try(
    scenario: Scenario, found: _Pointed, proposed: Tensor, clean: Tensor, means: Tensor, labels: Opinion, rate: float
) -> _Pointed:
    """Return what is pointed at with what speaks for and against it, and with what detectors left outside.

    Clusters leave some of their poison out, and ten images keep a backdoor alive: what carries a trigger joins. Where
    its very pixels tell, what does not carry it leaves.
    """
    data, members = scenario.data, found.members
    if (proposed[members] < 0).any():
        return found  # nothing was left to train a model on
    trait = traits.common_trait(data.images[members], proposed[members], means)
    tried = replace(
        found,
        moved=float((proposed[members] != found.label).float().mean()),
        calls=traits.share_called(scenario, trait, found.label, clean),
        contradicted=float(labels.flagged[members].float().mean()),
    )
    if not tried.is_trigger:
        return tried
    carriers = traits.carriers(data, found.positions, found.inside, means, trait, rate)
    known = scenario.trusted.images[scenario.trusted.labels == found.label]
    stamped = traits.stamped(data, found.positions, found.inside, known, rate)
    return replace(tried, inside=found.inside | carriers if stamped is None else stamped | (found.inside & carriers))


def _backdoor_groups(scenario: Scenario, pointed: Sequence[_Pointed], trusted: bool) -> tuple[list[Group], list[str]]:
    groups, dismissed = [], []
    for found in pointed:
        name, size = scenario.classes[found.label], int((found.inside & found.flagged).sum())
        line = (
            f"{size} images of class '{name}' ({size / len(found.positions):.1%} of it) stand apart in feature space "
            f"({', '.join(found.by)})"
        )
        if not found.is_trigger and found.contradicted >= CONTRADICTED:
            continue  # wrong labels; they are listed as such
        if not found.is_trigger and not trusted:
            if found.calls is None:
                but = "without them too little is left to tell what they have in common"
            else:
                but = f"what they have in common sends only {found.calls:.0%} of others there"
            dismissed.append(f"{line}, but {but}.")
            continue
        if trusted:
            line += "; almost no trusted image of the class lies there"
        if found.is_trigger:
            line += f". What they have in common sends {found.calls:.0%} of other images to this class"
        if joined := len(found.members) - size:
            line += f". {joined} more images of it carry that"
        if found.is_whole:
            line += ". They are nearly all of it: most of it is poison"
            line += ", or its trusted images come from elsewhere" if trusted else ", or it is made as no other class is"
        elif found.moved >= MOVED:
            line += f". A model trained without them takes {found.moved:.0%} of them for other classes"
        certain = not found.is_whole and (len(found.by) > 1 or found.is_trigger)
        groups.append(Group(found.members, found.label, certain, f"{line}."))
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
