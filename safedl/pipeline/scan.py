"""The scan of suspects as a stage: what it runs, keeps and tells."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from safedl.catalog.defenses.backdoor import FEWEST_CLASSES
from safedl.catalog.settings import ScanSettings
from safedl.data.imageset import Dataset
from safedl.defenses.contract import Scenario
from safedl.lookup import require
from safedl.models.classifier import Classifier
from safedl.models.weights import load_weights
from safedl.pipeline.picture import files_of
from safedl.review import IMAGES, Suspect, write_suspects
from safedl.scan.examine import NOISE, TRAIT, Examination, examine, probe
from safedl.scan.inspect import Inspection, inspect, reconstruct
from safedl.training.predict import accuracy
from safedl.training.workbench import Workbench

LEARNED = 0.9
"""Share of its own training labels below which a model is said to have learned too little."""
KNOWS = 0.5
"""Share of images whose label a model given must tell: one that does not know the data has no usual triggers."""
SHEET = 48
"""Suspects on the contact sheet."""


@dataclass(frozen=True)
class Scanned:
    """A finished scan: `model` is trained without the suspects.

    `pattern` [C, H, W] and `mask` [1, H, W] are a reconstructed trigger in [0, 1], or None.
    """

    examination: Examination
    suspects: tuple[Suspect, ...]
    model: Classifier
    details: Mapping[str, Any]
    pattern: Tensor | None
    mask: Tensor | None


def scan(dataset: Dataset, bench: Workbench, settings: ScanSettings, folders: tuple[Path, ...]) -> Scanned:
    """Train on the suspects, examine them, inspect the suspect model if there is one, and sum up.

    Raises `UsageError` for trusted images that are too few or weights that do not fit.
    """
    suspect_model = None
    if settings.weights:
        suspect_model = bench.build(bench.seed)
        load_weights(suspect_model, require(settings.weights, folders, "scan.weights"))
    trained = bench.fit(dataset.train)
    learned = accuracy(bench.predict(trained, dataset.train.images), dataset.train.labels)
    scenario = Scenario(dataset.train, dataset.trusted, dataset.classes, trained.clone(), bench)
    found = examine(scenario, settings.false_alarm_rate)
    judged = probe(scenario, found)
    inspection, known = None, None
    if suspect_model is not None:
        known = accuracy(bench.predict(suspect_model, judged.trusted.images), judged.trusted.labels)
        inspection = inspect(judged, suspect_model) if known >= KNOWS else None
    pattern, mask = (inspection.pattern, inspection.mask) if inspection else (None, None)
    sizes = []
    if pattern is None and found.target_classes:
        pattern, mask, size = reconstruct(judged, found.target_classes[0])
        name = dataset.classes[found.target_classes[0]]
        sizes.append(f"The smallest trigger found that calls class '{name}' covers {size:.1%} of the image.")
    model, proposed = trained, torch.zeros(0, dtype=torch.int64)
    if len(found.suspects):
        model = bench.fit(dataset.train.select(found.unsuspected), phase="train without suspects")
        proposed = bench.predict(model, dataset.train.images[found.suspects]).argmax(1)
    suspects = rank(found, proposed, dataset)
    details = _details(found, inspection, known, dataset, settings, sizes)
    if learned < LEARNED:
        details["limits"].insert(
            0,
            f"The model trained on the data gives {learned:.0%} of it the label it has: what it has not learned it "
            "cannot show, and detectors err more often. More epochs, or another model, may tell more.",
        )
    return Scanned(found, suspects, model, details, pattern, mask)


def rank(found: Examination, proposed: Tensor, dataset: Dataset) -> tuple[Suspect, ...]:
    """Return the suspects, those of the most certain groups, with the highest scores and most detectors first.

    `proposed`: int64 [S], the class that a model trained without them gives each, in the order of `found.suspects`.
    """
    entries = []
    answers = dict(zip(found.suspects.tolist(), proposed.tolist(), strict=True))
    for number, group in enumerate(found.groups):
        for index in group.members.tolist():
            pointing = [o for o in found.opinions if bool(o.flagged[index])]
            given, answer = int(dataset.train.labels[index]), answers[index]
            entries.append(
                Suspect(
                    index=index,
                    file=dataset.files[index] if dataset.files else None,
                    given_label=given,
                    proposed_label=answer if answer != given else None,
                    score=round(max(float(o.scores[index]) for o in pointing or found.opinions), 6),
                    detectors=tuple(o.detector for o in pointing) or (TRAIT,),
                    group=number,
                )
            )
    certain = [group.certain for group in found.groups]
    return tuple(sorted(entries, key=lambda s: (not certain[s.group], -s.score, -len(s.detectors), s.index)))


def keep(folder: Path, scanned: Scanned, dataset: Dataset) -> None:
    """Write the ranked suspects, their images, and every detector's scores of all samples."""
    order = torch.tensor([s.index for s in scanned.suspects], dtype=torch.int64)
    np.save(folder / IMAGES, dataset.train.images[order].numpy())
    scores: dict[str, Any] = {opinion.detector: opinion.scores.numpy() for opinion in scanned.examination.opinions}
    np.savez_compressed(files_of(folder) / "scores.npz", **scores)
    write_suspects(folder, scanned.suspects)


def sheet(scanned: Scanned, dataset: Dataset) -> tuple[NDArray[np.uint8], ...]:
    """Return the images uint8 [C, H, W] of the first suspects, for a contact sheet."""
    return tuple(dataset.train.images[s.index].numpy() for s in scanned.suspects[:SHEET])


def worst(verdicts: list[str]) -> str:
    """Return the worst of several verdicts."""
    order = ("no evidence", "suspicious", "poisoned")
    return max(verdicts, key=order.index)


def _details(
    found: Examination, inspection: Inspection | None, known: float | None, dataset: Dataset, settings: ScanSettings,
    sizes: list[str],
) -> dict[str, Any]:  # fmt: skip
    evidence = [group.sentence for group in found.groups] + sizes
    verdicts = [found.verdict]
    details: dict[str, Any] = {}
    targets = found.target_classes
    if inspection is not None:
        details["model_scan"] = {**_model_details(inspection, dataset.classes), "accuracy": known}
        verdicts.append(str(details["model_scan"]["verdict"]))
        evidence.append(str(details["model_scan"]["sentence"]))
        targets += [label for label in inspection.suspicious if label not in targets]
    return {
        "verdict": worst(verdicts),
        "data_verdict": found.verdict,
        "evidence": evidence,
        "dismissed": list(found.dismissed),
        "limits": limits(dataset, found, inspection, known),
        "target_classes": targets,
        "false_alarm_rate": settings.false_alarm_rate,
        "suspects": len(found.suspects),
        "samples": len(dataset.train),
        "fingerprint": dataset.fingerprint,
        "trusted_used": len(dataset.trusted),
        "detectors": {
            o.detector: {"flagged": int(o.flagged.sum()), "classes": [dataset.classes[c] for c in o.classes]}
            for o in found.opinions
        },
        **details,
    }


def _model_details(inspection: Inspection, classes: tuple[str, ...]) -> dict[str, Any]:
    if inspection.suspicious:
        first = inspection.suspicious[0]
        verdict = "poisoned"
        sentence = (
            f"Model: a trigger over {inspection.size[first]:.1%} of the image sends everything to class "
            f"'{classes[first]}' (anomaly index {inspection.index[first]:.1f})."
        )
    else:
        verdict, sentence = "no evidence", "Model: no class can be called by a trigger smaller than usual."
    return {
        "verdict": verdict,
        "sentence": sentence,
        "classes": {
            name: {
                "trigger_size": inspection.size[label],
                "reference_size": inspection.reference[label],
                "anomaly_index": inspection.index[label],
            }
            for label, name in enumerate(classes)
        },
    }


def limits(dataset: Dataset, found: Examination, inspection: Inspection | None, known: float | None) -> list[str]:
    """Return sentences on what this scan could not have seen.

    `known`: the share of images whose label a model given tells, None where none was given.
    """
    lines = []
    if known is not None and known < LEARNED:
        images = "trusted" if found.trusted else "unsuspected"
        follows = "too few to inspect it" if known < KNOWS else "what is said of it is less sure"
        lines.append(
            f"The model given tells the label of {known:.0%} of {images} images: {follows}. Its weights, the order of "
            "its classes or its normalisation may not be those of this data."
        )
    if not found.trusted:
        lines += [
            "Without trusted images: poison whose images have no trait in common, poison that is more than a third of "
            f"its class, and wrong labels below about {NOISE:.0%} of the set.",
        ]
    smallest = int(torch.bincount(dataset.train.labels, minlength=len(dataset.classes)).min())
    lines.append(
        f"A handful of poisoned images in a class (the smallest has {smallest}), or poison made to look like its "
        "class in feature space."
    )
    if inspection is not None:
        lines.append("In the model: triggers that change the whole image a little, instead of a small part of it much.")
    elif known is None:
        lines.append("No model was given: whether one that was trained elsewhere has a backdoor was not looked into.")
    elif len(dataset.classes) < FEWEST_CLASSES:
        lines.append(
            f"The model was not inspected: its classes' smallest triggers are compared with each other, which needs "
            f"{FEWEST_CLASSES} classes or more."
        )
    return lines
