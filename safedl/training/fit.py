"""The one training loop."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from safedl.catalog.settings import TrainingSettings
from safedl.data.imageset import ImageSet
from safedl.errors import UsageError
from safedl.models.classifier import Classifier
from safedl.progress import SILENT, Progress
from safedl.training.augment import augment
from safedl.training.precision import resolve

Loss = Callable[[Tensor, Tensor], Tensor]
"""Takes logits float32 [B, K] and labels int64 [B]; returns the mean loss, a scalar."""

Objective = Callable[[Classifier, Tensor, Tensor, torch.Generator], tuple[Tensor, Tensor]]
"""Takes the model in training mode, images [B, C, H, W] in [0, 1], labels int64 [B] and the fit's CPU generator.

Returns logits [B, K], from which training accuracy is counted, and the mean loss, a scalar. Runs under the loop's
autocast, whose cache of lowered weights is shared by all forward passes: none of them may run under `no_grad`.
"""


def to_float(images: Tensor, device: torch.device) -> Tensor:
    """Return images [B, C, H, W], uint8 or float in [0, 1], as float32 in [0, 1] on `device`, channels last."""
    batch = images.to(device, non_blocking=True)
    batch = batch.float().div_(255) if batch.dtype == torch.uint8 else batch.float()
    return batch.contiguous(memory_format=torch.channels_last)


def fit(
    model: Classifier,
    data: ImageSet,
    settings: TrainingSettings,
    *,
    device: torch.device,
    seed: int,
    loss: Loss = F.cross_entropy,
    objective: Objective | None = None,
    progress: Progress = SILENT,
    phase: str = "train",
    after_step: Callable[[], None] | None = None,
) -> Classifier:
    """Train `model` in place on `data` and return it in eval mode.

    Order of the images, augmentation and what the objective draws come from `seed` alone. `objective` replaces the
    loss of the plain images by one that may make images of its own. `after_step` runs after each optimiser step
    (to keep pruned units at zero, say). Raises `Cancelled` within a step of being asked to stop, and `UsageError` for
    an empty set and for a training that diverges: a model of NaN answers one class, which looks like a backdoor undone.
    """
    if not len(data):
        raise UsageError(f"{phase}: there are no images to train on")
    objective = objective or _plain(loss)
    model.to(device).train()
    rng = torch.Generator().manual_seed(seed)
    optimizer = _optimizer(model, settings)
    images, labels = _place(data, device)
    total = settings.epochs * len(_batches(torch.arange(len(data)), settings.batch_size))
    low_precision = resolve(settings.precision, device) == "bfloat16"
    step = 0
    for epoch in range(settings.epochs):
        order = torch.randperm(len(data), generator=rng)
        losses, hits = torch.zeros((), device=device), torch.zeros((), device=device)
        for index in _batches(order, settings.batch_size):
            for group in optimizer.param_groups:
                group["lr"] = settings.learning_rate * _rate(settings.schedule, step / total)
            index = index.to(images.device)  # noqa: PLW2901
            batch = to_float(augment(images[index], settings.augment, rng), device)
            target = labels[index].to(device)
            with torch.autocast(device.type, dtype=torch.bfloat16, enabled=low_precision):
                logits, value = objective(model, batch, target, rng)
            optimizer.zero_grad(set_to_none=True)
            value.backward()
            optimizer.step()
            if after_step:
                after_step()
            losses += value.detach() * len(index)
            hits += (logits.argmax(1) == target).sum()
            step += 1
            progress.step(phase, step, total)
        if not (losses.isfinite() and _finite(model)):
            raise UsageError(
                f"{phase}: training diverged in epoch {epoch + 1}, its loss or weights are no finite numbers any more; "
                "lower training.learning_rate, or train in float32 (training.precision)"
            )
        progress.metric(f"{phase}.loss", epoch + 1, float(losses) / len(data))
        progress.metric(f"{phase}.accuracy", epoch + 1, float(hits) / len(data))
    return model.eval()


def _finite(model: nn.Module) -> bool:
    return all(bool(p.isfinite().all()) for p in model.parameters())


def _batches(order: Tensor, size: int) -> list[Tensor]:
    """Split positions; one that would be left alone joins the batch before it: batch normalisation needs two."""
    batches = list(order.split(size))
    if len(batches) > 1 and len(batches[-1]) == 1:
        batches[-2:] = [torch.cat(batches[-2:])]
    return batches


def _plain(loss: Loss) -> Objective:
    def objective(model: Classifier, images: Tensor, labels: Tensor, _rng: torch.Generator) -> tuple[Tensor, Tensor]:
        logits = model(images)
        return logits, loss(logits.float(), labels)

    return objective


def _optimizer(model: nn.Module, settings: TrainingSettings) -> torch.optim.Optimizer:
    parameters = [p for p in model.parameters() if p.requires_grad]
    if settings.optimizer == "sgd":
        return torch.optim.SGD(
            parameters, settings.learning_rate, momentum=settings.momentum, weight_decay=settings.weight_decay
        )
    kind = torch.optim.AdamW if settings.optimizer == "adamw" else torch.optim.Adam
    return kind(parameters, settings.learning_rate, weight_decay=settings.weight_decay, fused=True)


def _rate(schedule: str, done: float) -> float:
    return 1.0 if schedule == "constant" else 0.5 * (1 + math.cos(math.pi * done))


def _place(data: ImageSet, device: torch.device) -> tuple[Tensor, Tensor]:
    """Keep the images on the device where they take at most half of its free memory, else where they are."""
    if device.type != "cuda":
        return data.images, data.labels
    free, _ = torch.cuda.mem_get_info(device)
    if data.images.numel() > free // 2:
        return data.images, data.labels
    return data.images.to(device), data.labels.to(device)
