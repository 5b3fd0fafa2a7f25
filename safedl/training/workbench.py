"""Training as a service to attacks, defenses and the pipeline: bound to recipe, seed and device, and cached.

Every fit of a fresh model is an artifact addressed by its content: recipe, seed, images and labels. Whoever asks
for the same model again - another defense of the same attack, a repeated run - gets the one that is there.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

from safedl.cache import ArtifactCache, digest
from safedl.catalog.settings import TrainingSettings
from safedl.data.imageset import ImageSet, tensor_digest
from safedl.models.classifier import Classifier
from safedl.progress import SILENT, Progress
from safedl.training import fit as loop
from safedl.training import predict
from safedl.training.precision import resolve

VERSION = 2
"""Raised when the same inputs would give another model or other features; empties the cache."""

FORWARD_AD_LOCK = threading.Lock()
"""Held around torch.func.jvp: forward-mode AD from two threads at once gives wrong results."""


@dataclass(frozen=True)
class NamedLoss:
    """A loss with a name that tells it apart from every other one (`gce q=0.7`): the name enters cache keys."""

    name: str
    function: loop.Loss


@dataclass(frozen=True)
class NamedObjective:
    """What is made of a batch instead of the loss of its images. Its name tells its parameters, for cache keys."""

    name: str
    function: loop.Objective


CROSS_ENTROPY = NamedLoss("cross_entropy", F.cross_entropy)

Loaded = TypeVar("Loaded")


def load_tensors(path: Path) -> Any:
    """Return what `torch.save` wrote, on the CPU."""
    return torch.load(path, weights_only=True, map_location="cpu")


def model_digest(model: Classifier) -> str:
    """Return the sha256 over a model's weights and buffers."""
    return tensor_digest(*model.state_dict().values())


@dataclass
class Workbench:
    """What a stage trains with. `build(seed)` makes a fresh model; `model_id` tells what it depends on."""

    build: Callable[[int], Classifier]
    model_id: str
    training: TrainingSettings
    device: torch.device
    seed: int
    threads: int = 1
    progress: Progress = SILENT
    cache: ArtifactCache | None = None
    producer: str = ""
    spared: float = field(default=0.0, init=False)
    """Seconds saved by artifacts that were there already: their making counts as this stage's cost, once for each."""
    _asked: set[tuple[str, str]] = field(default_factory=set, init=False)
    """Kinds and keys of the artifacts that were asked for: what was made or counted costs nothing a second time."""

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
        """Train a fresh model - or `model`, in place - by the common recipe and return it in eval mode.

        `overrides` replace fields of the recipe (`epochs=20, learning_rate=0.01`). An `objective` takes the
        place of `loss`. Raises `Cancelled`.
        """
        settings = TrainingSettings.model_validate({**self.training.model_dump(), **overrides})
        seed = self.seed if seed is None else seed

        def train(start: Classifier) -> Classifier:
            return loop.fit(
                start, data, settings, device=self.device, seed=seed, loss=loss.function,
                objective=objective.function if objective else None,
                progress=self.progress, phase=phase, after_step=after_step,
            )  # fmt: skip

        if model is not None or after_step is not None:
            return train(model or self.build(seed))
        key = self.key(
            settings.model_dump(exclude={"seed", "precision"}), resolve(settings.precision, self.device),
            seed, (objective or loss).name, tensor_digest(data.images, data.labels),
        )  # fmt: skip
        if self.cache is None:
            return train(self.build(seed))

        def build(folder: Path) -> None:
            torch.save(train(self.build(seed)).cpu().state_dict(), folder / "model.pt")

        def load(folder: Path) -> Classifier:
            fresh = self.build(seed)
            fresh.load_state_dict(load_tensors(folder / "model.pt"))
            return fresh.to(self.device).eval()

        return self.artifact("model", key, build, load)

    def features(self, model: Classifier, images: Tensor) -> Tensor:
        """Return penultimate features float32 [N, D] of uint8 images [N, C, H, W], from the cache where known."""
        if self.cache is None:
            return predict.features(model, images, self.device, self.progress)

        def build(folder: Path) -> None:
            torch.save(predict.features(model, images, self.device, self.progress), folder / "features.pt")

        def load(folder: Path) -> Tensor:
            loaded: Tensor = load_tensors(folder / "features.pt")
            return loaded

        return self.artifact("features", self.key(model_digest(model), tensor_digest(images)), build, load)

    def predict(self, model: Classifier, images: Tensor) -> Tensor:
        """Return logits float32 [N, K] of images [N, C, H, W], uint8 or float in [0, 1]."""
        return predict.predict(model, images, self.device, self.progress)

    def rng(self, purpose: str) -> torch.Generator:
        """Return a generator of its own for each purpose, on the CPU, fixed by the seed.

        Two purposes that drew from one seed would draw alike: poison that is chosen by the permutation in which
        training reads the images would all come first.
        """
        value = hashlib.sha256(f"{self.seed}/{purpose}".encode()).digest()
        return torch.Generator().manual_seed(int.from_bytes(value[:8], "big") >> 1)

    def key(self, *parts: Any) -> str:
        """Return the key of an artifact that depends on `parts`, the model's architecture, and the numerics."""
        torch_version = ".".join(torch.__version__.split(".")[:2])
        return digest([VERSION, torch_version, self.device.type, self.threads, self.model_id, *parts])

    def artifact(self, kind: str, key: str, build: Callable[[Path], None], load: Callable[[Path], Loaded]) -> Loaded:
        """Return what `load(folder)` reads of an artifact, built if it is not in the cache yet; needs a cache.

        `cache gc` may take it away before it is read: then it is built again.
        """
        assert self.cache is not None
        while True:
            start = time.perf_counter()
            artifact = self.cache.get(
                kind, key, build, self.producer, waiting=lambda: self.progress.step("wait for another stage", 0, 1)
            )
            waited = time.perf_counter() - start
            try:
                loaded = load(artifact.path)
            except FileNotFoundError:
                if self.cache.find(kind, key):
                    raise
                self.progress.log(f"{kind} {key[:12]} was removed from the cache meanwhile")
                continue
            if artifact.hit:
                self.spared += 0 if (kind, key) in self._asked else artifact.seconds - waited
                self.progress.log(f"{kind} {key[:12]} taken from the cache")
            self._asked.add((kind, key))
            return loaded
