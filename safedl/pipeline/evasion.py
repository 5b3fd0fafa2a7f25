"""Attacks at test time: which images they are tried on, what they reach, and what of it is an illusion."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from safedl import catalog
from safedl.attacks import load_perturb
from safedl.attacks.contract import EvasionContext
from safedl.attacks.evasion.batches import perturb_all
from safedl.data.imageset import Dataset, ImageSet, tensor_digest
from safedl.defenses.guard import Guard
from safedl.evaluation import metrics
from safedl.evaluation.metrics import Metrics
from safedl.models.classifier import Classifier
from safedl.risk.effect import noise
from safedl.training.fit import to_float
from safedl.training.workbench import Workbench, load_tensors, model_digest

Substitute = Callable[[str, Mapping[str, Any]], Classifier]


@dataclass(frozen=True)
class Assault:
    """An attack against one model, on M test images.

    `index`: int64 [M], their positions in the test set; `labels`: int64 [M], their true classes; `images`: float32
    [M, C, H, W] in [0, 1], as the attack left them; `queries`: int64 [M]; `right`: bool [M], classified right before;
    `predicted`: int64 [M], the classes given after; `originals`: uint8 [M, C, H, W].
    """

    index: Tensor
    labels: Tensor
    originals: Tensor
    images: Tensor
    queries: Tensor
    right: Tensor
    predicted: Tensor
    details: Mapping[str, Any] = field(default_factory=dict)

    @property
    def robust(self) -> Tensor:
        """Bool [M]: classified right before and after."""
        return self.right & (self.predicted == self.labels)


@dataclass(frozen=True)
class Trial:
    """What an attack is tried with, whatever model it meets. `substitute` trains a model of the attacker's own."""

    attack: str
    params: Mapping[str, Any]
    dataset: Dataset
    bench: Workbench
    substitute: Substitute


def assault(trial: Trial, model: Classifier) -> Assault:
    """Attack `model` on the test images that the parameter `max_samples` allows."""
    spec, bench, test = catalog.attack(trial.attack), trial.bench, trial.dataset.test
    params = spec.params.model_validate(dict(trial.params))
    index = sample(len(test), getattr(params, "max_samples", None), bench.seed)
    chosen = test.select(index)
    context = EvasionContext(
        rng=bench.rng("attack"),
        num_classes=len(trial.dataset.classes),
        progress=bench.progress,
        substitute=trial.substitute if spec.access == "transfer" else None,
    )
    right = bench.predict(model, chosen.images).argmax(1) == chosen.labels
    found = perturb_all(spec, load_perturb(spec), model, chosen.images, chosen.labels, params, context, bench.device)
    predicted = bench.predict(model, found.images).argmax(1)
    return Assault(index, chosen.labels, chosen.images, found.images, found.queries, right, predicted, found.details)


def assault_clean(trial: Trial, model: Classifier) -> Assault:
    """Attack the undefended model: made once, kept as an artifact that every defense is tried on."""
    bench, dataset = trial.bench, trial.dataset

    def build(folder: Path) -> None:
        made = assault(trial, model)
        tensors = {n: getattr(made, n) for n in ("index", "images", "queries", "right", "predicted")}
        torch.save({**tensors, "details": dict(made.details)}, folder / "adversarial.pt")

    key = bench.key(trial.attack, dict(trial.params), bench.seed, model_digest(model), dataset.fingerprint)
    kept = bench.artifact("adversarial", key, build, lambda folder: load_tensors(folder / "adversarial.pt"))
    chosen = dataset.test.select(kept["index"])
    return Assault(labels=chosen.labels, originals=chosen.images, **kept)


def sample(count: int, most: int | None, seed: int) -> Tensor:
    """Return the positions (int64, ascending) of at most `most` of `count` test images.

    A smaller sample is part of every larger one of the same seed, so that attacks share their images.
    """
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
    return order[:most].sort().values


def measure(model: Classifier, made: Assault, test: ImageSet, bench: Workbench, classes: tuple[str, ...]) -> Metrics:
    """Return the accuracy of a model, clean on the whole test set and adversarial on the images attacked."""
    clean = metrics.clean_metrics(bench.predict(model, test.images), test.labels, classes)
    return clean | metrics.adversarial_metrics(made.robust, made.labels, classes)


def facts(made: Assault) -> dict[str, Any]:
    """Return what the attack spent, and how sure its result is, as details."""
    change = made.images - made.originals.float() / 255
    return {**made.details, **metrics.attack_facts(made.right, made.robust, change, made.queries)}


def shown(bench: Workbench, model: Classifier, undefended: Assault) -> Assault:
    """Return an attack on the undefended model as a defended one answers its images."""
    right = bench.predict(model, undefended.originals).argmax(1) == undefended.labels
    return replace(undefended, right=right, predicted=bench.predict(model, undefended.images).argmax(1))


def strongest(adaptive: Assault, static: Assault) -> Assault:
    """Return an attack on a defended model, in which images that failed give way to those of `static` that do not.

    Who knows the defense has these, too: an attack that loses its way in a guard must not flatter it.
    """
    better = adaptive.robust & ~static.robust
    return replace(
        adaptive,
        images=torch.where(better.view(-1, 1, 1, 1), static.images, adaptive.images),
        predicted=static.predicted.where(better, adaptive.predicted),
        details={**adaptive.details, "num_static": int(better.sum())},
    )


def weaker_attackers(
    trial: Trial, model: Classifier, undefended: Assault, static: Assault, adaptive: Assault
) -> tuple[Metrics, tuple[str, ...]]:
    """Return what weaker attackers reach against a defended model, and what the difference says.

    `static_adversarial_accuracy`: on images made for the undefended model. `naive_adversarial_accuracy`: under an
    attack that differentiates a guard as it stands, where the attack uses gradients and the guard hides its own.
    """
    found = {"static_adversarial_accuracy": _share(static.robust)}
    if isinstance(model, Guard) and model.hides_gradient and catalog.attack(trial.attack).access == "gradient":
        found["naive_adversarial_accuracy"] = _share(assault(trial, _Naive(model)).robust)
    return found, _verdict(found, _share(undefended.robust), _share(adaptive.robust), len(adaptive.robust))


class _Naive(Guard):
    """A guard as an attacker sees it who does not know of it: its own derivative, zero where it has none."""

    def __init__(self, guard: Guard) -> None:
        super().__init__(guard)
        self.guard = guard

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.guard(images)
        return logits

    def surrogate(self, images: Tensor) -> Tensor:
        logits: Tensor = self(images)
        return logits if logits.requires_grad else logits + 0 * images.sum()


def _verdict(weak: Metrics, before: float, adaptive: float, count: int) -> tuple[str, ...]:
    best = max(weak.values())
    if best - adaptive <= noise(best, adaptive, count):
        return ()
    left, limit = adaptive - before, noise(before, adaptive, count)
    rest = "nothing is left of the gain"
    if left > 0:
        rest = f"what is left of the gain is {left:.3f}{'' if left > limit else f', within noise (±{limit:.3f}),'}"
    return (
        f"An attacker who does not know of the defense leaves an accuracy of {best:.3f}, one who does {adaptive:.3f}: "
        f"{rest} over the undefended model's {before:.3f}.",
    )


def _share(values: Tensor) -> float:
    return int(values.sum()) / max(1, len(values))


def certificate(model: Classifier, test: ImageSet, bench: Workbench) -> dict[str, Any]:
    """Return the certified accuracy by L2 radius of a guard that certifies, as details; empty for other models.

    It is the same whatever attack the guard is to withstand, so it is kept as an artifact.
    """
    if not isinstance(model, Guard) or not model.certify_images:
        return {}
    chosen = test.select(sample(len(test), model.certify_images, bench.seed))

    def build(folder: Path) -> None:
        found = model.certified_radii(to_float(chosen.images, bench.device), chosen.labels, bench.progress)
        torch.save(found, folder / "radii.pt")

    key = bench.key(model_digest(model), repr(model.details), tensor_digest(chosen.images, chosen.labels))
    radii = bench.artifact("certificate", key, build, lambda folder: load_tensors(folder / "radii.pt"))
    steps = [round(0.25 * k, 2) for k in range(9)]
    return {
        "certified_images": len(radii),
        "certified_accuracy_by_radius": {f"{r:g}": _share(radii >= r) for r in steps},
        "certified_accuracy": _share(radii >= 0),
        "certified_radius_median": float(radii.clamp_min(0).median()),
    }
