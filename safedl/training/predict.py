"""Predictions, accuracy and features of a trained model, always in float32 and eval mode."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from safedl.errors import UsageError
from safedl.models.classifier import Classifier
from safedl.progress import SILENT, Progress
from safedl.training.fit import to_float

BATCH = 64
"""Images at once. Of more, activations outgrow what the C library keeps for reuse (32 MB), and every batch is given
fresh pages: at 128 predictions take twice as long (`cnn` on 28x28, one thread), at 512 a plan peaked at 2.0 GB."""


@torch.no_grad()
def predict(
    model: Classifier, images: Tensor, device: torch.device, progress: Progress = SILENT, phase: str = "evaluate"
) -> Tensor:
    """Return logits float32 [N, K] on the CPU for images [N, C, H, W], uint8 or float in [0, 1].

    Raises `UsageError` for NaN: the first class would be taken for the answer.
    """
    logits = _by_batch(model, model, images, device, progress, phase)
    if logits.isnan().any():
        raise UsageError(
            f"{phase}: the model answers with NaN; its weights, or what it computes, are no finite numbers"
        )
    return logits


@torch.no_grad()
def features(model: Classifier, images: Tensor, device: torch.device, progress: Progress = SILENT) -> Tensor:
    """Return penultimate features float32 [N, D] on the CPU for uint8 images [N, C, H, W]."""
    return _by_batch(model, lambda batch: model.with_features(batch)[0], images, device, progress, "features")


def _by_batch(
    model: Classifier,
    answer: Callable[[Tensor], Tensor],
    images: Tensor,
    device: torch.device,
    progress: Progress,
    phase: str,
) -> Tensor:
    """Return what `answer` makes of the images, float32 [N, ...], a batch at a time."""
    model.to(device).eval()
    answers = torch.empty(0, 0)
    for start in range(0, len(images), BATCH):
        batch = answer(to_float(images[start : start + BATCH], device))
        if not start:
            # One block for all: answers kept batch by batch would lie between the activations of the next ones, and
            # pin the memory of those after their end (1.9 GB instead of 1.0 for 20,000 images, two threads).
            answers = torch.empty(len(images), *batch.shape[1:])
        answers[start : start + BATCH] = batch
        progress.step(phase, min(start + BATCH, len(images)), len(images))
    return answers


def sample_losses(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the cross-entropy of each sample, float32 [N]."""
    return F.cross_entropy(logits, labels, reduction="none")


def accuracy(logits: Tensor, labels: Tensor) -> float:
    """Return the share of right predictions, in [0, 1]; NaN for no samples."""
    return float((logits.argmax(1) == labels).float().mean())


def class_accuracy(logits: Tensor, labels: Tensor, num_classes: int) -> Tensor:
    """Return the accuracy within each true class, float32 [K]; NaN where a class has no samples."""
    right = (logits.argmax(1) == labels).float()
    hits = torch.zeros(num_classes).index_add_(0, labels, right)
    return hits / torch.bincount(labels, minlength=num_classes)
