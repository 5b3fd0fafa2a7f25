"""The poison of an attack: drawn once per attack and seed, kept as an artifact that every defense reads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from safedl import catalog
from safedl.attacks import load_poison
from safedl.attacks.contract import AttackContext, Poisoning, Trigger
from safedl.attacks.sources import assign_sources
from safedl.cache import digest
from safedl.data.imageset import Dataset, ImageSet, tensor_digest
from safedl.models.classifier import Classifier
from safedl.training.workbench import Workbench, load_tensors, model_digest

VERSION = 4
"""Raised when an attack would draw other poison from the same inputs."""


def draw(
    attack: str, params: dict[str, Any], dataset: Dataset, bench: Workbench, clean_model: Classifier | None
) -> Poisoning:
    """Return the poisoned training set, from the cache if it was drawn before.

    `clean_model` is given to attacks whose catalog entry asks for it.
    """
    spec = catalog.attack(attack)
    clean_model = clean_model if spec.needs_clean_model else None
    train = dataset.train

    def build(folder: Path) -> None:
        context = AttackContext(
            rng=bench.rng("attack"),
            num_classes=len(dataset.classes),
            device=bench.device,
            clean_model=clean_model.clone() if clean_model else None,
            progress=bench.progress,
        )
        poisoning = load_poison(spec)(train, spec.params.model_validate(params), context)
        sources = assign_sources(poisoning.data, poisoning.mask, bench.rng("sources")).sources
        _save(folder, train, poisoning, sources)

    key = digest(
        [
            VERSION,
            attack,
            params,
            bench.seed,
            tensor_digest(train.images, train.labels),
            None if train.sources is None else tensor_digest(train.sources),  # contributors come with the poison
            model_digest(clean_model) if clean_model else None,
        ]
    )
    return bench.artifact("poisoning", key, build, lambda folder: _load(folder, train))


def _save(folder: Path, clean: ImageSet, poisoning: Poisoning, sources: torch.Tensor | None) -> None:
    """Write what differs from the clean training set, and the truth about it."""
    changed = (poisoning.data.images != clean.images).flatten(1).any(1).nonzero().flatten()
    tensors = {
        "changed": changed,
        "images": poisoning.data.images[changed],
        "labels": poisoning.data.labels,
        "mask": poisoning.mask,
        "original_labels": poisoning.original_labels,
    }
    if sources is not None:
        tensors["sources"] = sources
    if poisoning.trigger is not None:
        tensors |= {"pattern": poisoning.trigger.pattern.cpu(), "trigger_mask": poisoning.trigger.mask.cpu()}
    torch.save(tensors, folder / "poisoning.pt")
    facts = {"target_class": poisoning.target_class, "details": dict(poisoning.details)}
    (folder / "facts.json").write_text(json.dumps(facts))


def _load(folder: Path, clean: ImageSet) -> Poisoning:
    tensors = load_tensors(folder / "poisoning.pt")
    facts = json.loads((folder / "facts.json").read_text())
    images = clean.images
    if len(tensors["changed"]):
        images = images.clone()
        images[tensors["changed"]] = tensors["images"]
    trigger = Trigger(tensors["pattern"], tensors["trigger_mask"]) if "pattern" in tensors else None
    return Poisoning(
        data=ImageSet(images, tensors["labels"], tensors.get("sources")),
        mask=tensors["mask"],
        original_labels=tensors["original_labels"],
        trigger=trigger,
        target_class=facts["target_class"],
        details=facts["details"],
    )
