"""What a defense may look at, and what it returns: one of five kinds, each one function in one file.

| kind | function | the pipeline then |
|---|---|---|
| detect | `detect(scenario, params) -> Detection` | removes the flagged samples, retrains, evaluates |
| train | `train(scenario, params) -> Trained` | evaluates |
| repair | `repair(scenario, params) -> Repaired` | evaluates |
| diagnose | `diagnose(scenario, params) -> Findings` | writes the findings; nothing changes |
| guard | `guard(scenario, params) -> Guard` | evaluates, through the guard |

`details` become keys of the result; its numbers become metrics in the store as well.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from safedl.data.imageset import ImageSet
from safedl.models.classifier import Classifier
from safedl.training.workbench import Workbench


@dataclass(frozen=True)
class Scenario:
    """What a defense may look at: never the poison mask, the original labels or the test set.

    `data`: the training set as it came, poisoned (clean where the attack comes at test time); `trusted`: a clean
    holdout; `model`: the defense's own copy of the model trained on `data`; `clean_model`: only for defenses whose
    catalog entry declares it.
    """

    data: ImageSet
    trusted: ImageSet
    classes: tuple[str, ...]
    model: Classifier
    bench: Workbench
    clean_model: Callable[[], Classifier] | None = None

    @property
    def num_classes(self) -> int:
        """Number of classes K."""
        return len(self.classes)

    @property
    def seed(self) -> int:
        """The run's seed, for scikit-learn's `random_state`."""
        return self.bench.seed

    def rng(self, purpose: str) -> torch.Generator:
        """Return a generator of its own for each purpose, on the CPU, fixed by the seed."""
        return self.bench.rng(purpose)

    def fit(self, data: ImageSet, **overrides: Any) -> Classifier:
        """Train by the common recipe: see `Workbench.fit`."""
        return self.bench.fit(data, **overrides)

    def features(self) -> Tensor:
        """Return penultimate features float32 [N, D] of the training set under `model` as it was given."""
        return self.bench.features(self.model, self.data.images)

    def trusted_features(self) -> Tensor:
        """Return penultimate features float32 [M, D] of the trusted holdout under `model` as it was given."""
        return self.bench.features(self.model, self.trusted.images)


@dataclass(frozen=True)
class Detection:
    """`scores`: float [N], higher is more suspicious; `flagged`: bool [N], what to remove.

    `reference`: scores float [M] of trusted images by the same measure, each judged as if it were not trusted, maybe
    more than once: what clean images score. None where there are none.
    """

    scores: Tensor
    flagged: Tensor
    details: Mapping[str, Any] = field(default_factory=dict)
    reference: Tensor | None = None


@dataclass(frozen=True)
class Trained:
    """A model trained on the poisoned data in a way that withstands it."""

    model: Classifier
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Repaired:
    """The attacked model, mended."""

    model: Classifier
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Findings:
    """A verdict. `histograms`: one-dimensional values to plot, by name (weights per layer, say)."""

    suspicious: bool
    details: Mapping[str, Any] = field(default_factory=dict)
    histograms: Mapping[str, Tensor] = field(default_factory=dict)
