"""What a stage keeps for people and for later: example images, indices, the poison itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from safedl.attacks.contract import Poisoning, Trigger
from safedl.data.imageset import Dataset
from safedl.defenses.contract import Detection
from safedl.pipeline.evasion import Assault
from safedl.reports.outcome import Example

EXAMPLES = 5
SCORES = "scores.npz"
"""Of a detector's run, in its `files/`: `scores` float32 [N], higher is more suspicious, and `flagged` bool [N]."""


def files_of(folder: Path) -> Path:
    """Return the folder `files/` of a run, made if it is not there."""
    files = folder / "files"
    files.mkdir(parents=True, exist_ok=True)
    return files


def poisoned_examples(dataset: Dataset, poisoning: Poisoning) -> tuple[Example, ...]:
    """Return the first poisoned samples, beside what they were."""
    index = poisoning.mask.nonzero().flatten()[:EXAMPLES]
    return tuple(_example(dataset, poisoning, int(i), None) for i in index)


def removed_examples(dataset: Dataset, poisoning: Poisoning, found: Detection) -> tuple[Example, ...]:
    """Return the most suspicious of the removed samples."""
    scores = found.scores.where(found.flagged, torch.tensor(-torch.inf))
    order = scores.argsort(descending=True, stable=True)[: min(EXAMPLES, int(found.flagged.sum()))]
    return tuple(_example(dataset, poisoning, int(i), float(found.scores[i])) for i in order)


def adversarial_examples(made: Assault) -> tuple[Example, ...]:
    """Return the first test images that an attack fooled the model on."""
    fooled = (made.right & ~made.robust).nonzero().flatten()[:EXAMPLES]
    images = made.images[fooled].mul(255).round().to(torch.uint8)
    return tuple(
        Example(
            image=image.numpy(),
            index=int(made.index[i]),
            true_label=int(made.labels[i]),
            given_label=int(made.labels[i]),
            poisoned=None,
            original=made.originals[i].numpy(),
            predicted_label=int(made.predicted[i]),
        )
        for i, image in zip(fooled, images, strict=True)
    )


def trigger_arrays(trigger: Trigger | None) -> dict[str, Any]:
    """Return the trigger's pattern and mask for the report, or nothing."""
    return {} if trigger is None else pattern_arrays(trigger.pattern, trigger.mask)


def pattern_arrays(pattern: Tensor | None, mask: Tensor | None) -> dict[str, Any]:
    """Return a pattern [C, H, W] and its mask [1, H, W] for the report, or nothing."""
    if pattern is None or mask is None:
        return {}
    return {"trigger": pattern.cpu().numpy(), "trigger_mask": mask.cpu().numpy()}


def keep_poisoning(folder: Path, poisoning: Poisoning) -> None:
    """Write indices, labels, source ids and trigger as `files/poisoning.npz`."""
    arrays: dict[str, Any] = {
        "poisoned_indices": poisoning.mask.nonzero().flatten().numpy(),
        "labels": poisoning.data.labels.numpy(),
        "original_labels": poisoning.original_labels.numpy(),
        **trigger_arrays(poisoning.trigger),
    }
    if poisoning.data.sources is not None:
        arrays["source_ids"] = poisoning.data.sources.numpy()
    np.savez_compressed(files_of(folder) / "poisoning.npz", **arrays)


def keep_indices(folder: Path, kept: Tensor) -> None:
    """Write the positions of the samples that a detector kept (bool [N]) as `files/kept_indices.npy`."""
    np.save(files_of(folder) / "kept_indices.npy", kept.nonzero().flatten().numpy())


def keep_scores(folder: Path, found: Detection) -> None:
    """Write what a detector gave every training sample, in their order, as `files/scores.npz`."""
    scores, flagged = found.scores.numpy().astype(np.float32), found.flagged.numpy()
    np.savez_compressed(files_of(folder) / SCORES, scores=scores, flagged=flagged)


def _example(dataset: Dataset, poisoning: Poisoning, index: int, score: float | None) -> Example:
    return Example(
        image=poisoning.data.images[index].numpy(),
        index=index,
        true_label=int(poisoning.original_labels[index]),
        given_label=int(poisoning.data.labels[index]),
        poisoned=bool(poisoning.mask[index]),
        score=score,
        original=dataset.train.images[index].numpy(),
    )
