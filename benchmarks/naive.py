"""The straightforward way to try a defense: one script that does everything itself, as plain PyTorch.

It reads the data, poisons it, trains the attacked model, defends, retrains and measures; the next defense starts from
nothing again. Images come one by one through a data set in the style of torchvision's and a `DataLoader` (batches of
64, no worker processes, its default), and training is float32 in the usual memory format. Attacks, defenses and
measures are Safe-DL's own functions: they are not what is compared.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset
from torchvision import transforms

from safedl import catalog
from safedl.attacks import load_poison
from safedl.attacks.contract import AttackContext, Poisoning
from safedl.attacks.sources import assign_sources
from safedl.catalog.settings import DatasetSettings, ModelSettings, TrainingSettings
from safedl.data.imageset import Dataset, ImageSet
from safedl.data.load import load
from safedl.defenses import load as load_defense
from safedl.defenses.contract import Detection, Findings, Scenario
from safedl.evaluation import metrics
from safedl.models.build import build
from safedl.models.classifier import Classifier
from safedl.training.workbench import CROSS_ENTROPY, NamedLoss, NamedObjective, Workbench

BATCH = 64
CPU = torch.device("cpu")


class Pictures(TorchDataset[tuple[Tensor, int]]):
    """Images as torchvision's data sets give them: each becomes a picture, then a tensor in [0, 1]."""

    def __init__(self, data: ImageSet) -> None:
        self.pixels = data.images.permute(0, 2, 3, 1).numpy()
        self.labels = data.labels.tolist()
        self.transform = transforms.ToTensor()

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        pixels = self.pixels[index]
        picture = Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)
        return self.transform(picture), self.labels[index]


class PlainBench(Workbench):
    """What a defense trains with, written plainly: nothing is kept for the next one."""

    def fit(
        self,
        data: ImageSet,
        *,
        model: Classifier | None = None,
        loss: NamedLoss = CROSS_ENTROPY,
        objective: NamedObjective | None = None,
        phase: str = "train",
        seed: int | None = None,
        after_step: Callable[[], None] | None = None,
        **overrides: Any,
    ) -> Classifier:
        """Train a fresh model, or `model`, by the recipe."""
        settings = TrainingSettings.model_validate({**self.training.model_dump(), **overrides})
        seed = self.seed if seed is None else seed
        model = (model or self.build(seed)).to(memory_format=torch.contiguous_format)
        order = torch.Generator().manual_seed(seed)
        odd = len(data) % settings.batch_size == 1  # batch normalisation needs two images
        loader = DataLoader(
            Pictures(data), batch_size=settings.batch_size, shuffle=True, generator=order, drop_last=odd
        )
        optimizer = torch.optim.Adam(model.parameters(), settings.learning_rate)
        scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, settings.epochs * len(loader))
        model.train()
        for _epoch in range(settings.epochs):
            for images, labels in loader:
                optimizer.zero_grad()
                if objective:
                    objective.function(model, images, labels, order)[1].backward()
                else:
                    loss.function(model(images), labels).backward()
                optimizer.step()
                if after_step:
                    after_step()
                scheduler.step()
        return model.eval()

    def predict(self, model: Classifier, images: Tensor) -> Tensor:
        """Return logits [N, K]."""
        return self._through(images, model.eval())

    def features(self, model: Classifier, images: Tensor) -> Tensor:
        """Return penultimate features [N, D]."""
        model.eval()
        return self._through(images, lambda batch: model.with_features(batch)[0])

    @torch.no_grad()
    def _through(self, images: Tensor, function: Callable[[Tensor], Tensor]) -> Tensor:
        pictures = Pictures(ImageSet(images, torch.zeros(len(images), dtype=torch.int64)))
        return torch.cat([function(batch) for batch, _labels in DataLoader(pictures, batch_size=BATCH)])


@dataclass(frozen=True)
class Task:
    """What a script is about."""

    data: DatasetSettings
    model: ModelSettings
    training: TrainingSettings
    attack: str
    attack_params: Any
    defense: str
    defense_params: Any


def defend(task: Task) -> dict[str, float]:
    """Run one script, and return the metrics of what it ends with."""
    seed = task.training.seed
    dataset = load(task.data, seed)
    recipe = task.training.model_copy(update={"precision": "float32"})
    bench = PlainBench(lambda s: build(task.model, dataset, s), "", recipe, CPU, seed)
    spec = catalog.defense(task.defense)
    needs_clean = catalog.attack(task.attack).needs_clean_model or bool(spec.clean_model)
    clean = bench.fit(dataset.train) if needs_clean else None
    poisoning = _poison(task, dataset, clean)
    attacked = bench.fit(poisoning.data)
    metrics.evaluate(attacked, dataset.test, poisoning, bench, dataset.classes)
    scenario = Scenario(
        poisoning.data, dataset.trusted, dataset.classes, attacked.clone(), bench,
        clean_model=clean.clone if clean and spec.clean_model else None,
    )  # fmt: skip
    result = load_defense(spec)(scenario, task.defense_params)
    if isinstance(result, Detection):
        model = bench.fit(poisoning.data.select(~result.flagged))
    else:
        model = attacked if isinstance(result, Findings) else result.model
    return metrics.evaluate(model, dataset.test, poisoning, bench, dataset.classes)


def _poison(task: Task, dataset: Dataset, clean: Classifier | None) -> Poisoning:
    spec = catalog.attack(task.attack)
    rng = torch.Generator().manual_seed(task.training.seed)
    model = clean.clone() if clean and spec.needs_clean_model else None
    context = AttackContext(rng, len(dataset.classes), CPU, model)
    poisoning = load_poison(spec)(dataset.train, task.attack_params, context)
    sources = assign_sources(poisoning.data, poisoning.mask, torch.Generator().manual_seed(task.training.seed))
    return Poisoning(
        sources, poisoning.mask, poisoning.original_labels, poisoning.trigger, poisoning.target_class, poisoning.details
    )
