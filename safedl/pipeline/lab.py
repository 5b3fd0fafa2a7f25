"""What all stages of one experiment share: the profile, its data and models, the cache, devices and threads."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from safedl.cache import ArtifactCache, digest, file_digest
from safedl.catalog.settings import DatasetSettings, ModelSettings
from safedl.data.imageset import Dataset
from safedl.data.load import load, load_suspects, read, split
from safedl.data.usercode import code_digest
from safedl.errors import UsageError
from safedl.lookup import require
from safedl.models.build import build, identity
from safedl.models.classifier import Classifier
from safedl.plan import Stage
from safedl.profile.schema import Profile
from safedl.progress import SILENT, Progress
from safedl.training.precision import resolve
from safedl.training.workbench import Workbench

VERSION = 10
"""Raised when the same inputs would give other results; old runs stay, but are no longer linked."""

SHOWN, FEWEST, MOST = 100_000, 3, 30
"""Images that a scan's model is shown in all, and the epochs it gets at least and at most."""


@dataclass(frozen=True)
class Lab:
    """Bound to one profile. `folders` are searched for relative paths; `replicate` sets runs without cache apart.

    For a `scan` the data is taken as it came: all of it are suspects, and only what the profile names is trusted.
    """

    profile: Profile
    folders: tuple[Path, ...]
    cache: ArtifactCache
    devices: tuple[torch.device, ...]
    threads: int
    replicate: str = ""
    scan: bool = False
    _datasets: dict[int, Dataset] = field(default_factory=dict)
    _identities: dict[str, str] = field(default_factory=dict)
    """What files held when they were first asked for: the stages' keys stand for that."""
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def data_settings(self) -> DatasetSettings:
        """The profile's data set."""
        assert self.profile.dataset is not None
        return self.profile.dataset

    @property
    def model_settings(self) -> ModelSettings:
        """The profile's model."""
        assert self.profile.model is not None
        return self.profile.model

    def dataset(self, seed: int, progress: Progress = SILENT) -> Dataset:
        """Return the data split for a seed; read once."""
        with self._lock:
            if seed not in self._datasets:
                shape = self.model_settings.input_shape
                if self.scan:
                    trusted = self.profile.scan.trusted
                    found = load_suspects(self.data_settings, trusted, self.folders, progress, shape)
                else:
                    found = load(self.data_settings, seed, self.folders, progress, shape=shape)
                self._datasets[seed] = found
            return self._datasets[seed]

    def read(self, seeds: Iterable[int], progress: Progress = SILENT) -> None:
        """Read the data once and split it for all these seeds."""
        with self._lock:
            missing = [seed for seed in seeds if seed not in self._datasets]
            if len(missing) > 1 and not self.scan:
                raw = read(self.data_settings, self.folders, progress, self.model_settings.input_shape)
                self._datasets.update({seed: split(raw, self.data_settings, seed, progress) for seed in missing})

    def paced(self, progress: Progress = SILENT) -> Lab:
        """Return the lab with as many epochs as suit the size of its data, unless its profile names them."""
        if "epochs" in (self.profile.document.get("training") or {}):
            return self
        images = len(self.dataset(self.profile.training.seed, progress).train)
        epochs = max(FEWEST, min(MOST, round(SHOWN / images)))
        training = self.profile.training.model_copy(update={"epochs": epochs})
        return replace(self, profile=replace(self.profile, training=training))

    def model_id(self, seed: int) -> str:
        """Return the identity of what a fresh model depends on, as it was when it was first asked for."""
        return self._first_identity(self.model_settings, seed)

    def model_code(self, seed: int) -> str | None:
        """Return the sha256 of an own model's code as it was first seen, or None for a built-in one."""
        if not self.model_settings.own:
            return None
        if f"code {seed}" not in self._identities:
            self._first_identity(self.model_settings.model_copy(update={"weights": None}), seed)
        return self._identities[f"code {seed}"]

    def _first_identity(self, settings: ModelSettings, seed: int) -> str:
        dataset = self.dataset(seed)

        def look() -> str:
            if settings.own:  # what its functions import is part of it, and known once they were called
                build(settings, dataset, seed, self.folders)
                code = code_digest(require(settings.own, self.folders, "model.path"))
                self._identities.setdefault(f"code {seed}", code)
            return identity(settings, dataset, self.folders)

        return self._first(f"model {seed} {settings.model_dump_json()}", look)

    def _first(self, name: str, look: Callable[[], str]) -> str:
        with self._lock:
            if name not in self._identities:
                self._identities[name] = look()
            return self._identities[name]

    def bench(
        self, seed: int, device: torch.device, progress: Progress = SILENT, producer: str = "",
        model: ModelSettings | None = None,
    ) -> Workbench:  # fmt: skip
        """Return a workbench for one stage, for the profile's model or another one.

        It makes no model of files that have changed since the lab was made, but raises `UsageError`.
        """
        dataset, settings = self.dataset(seed), model or self.model_settings
        model_id = self._first_identity(settings, seed)

        def make(own_seed: int) -> Classifier:
            made = build(settings, dataset, own_seed, self.folders)
            # After the model was built: what is stored under the stage's key must be of the code that the key is of.
            if settings.files and identity(settings, dataset, self.folders) != model_id:
                names = " or ".join(Path(name).name for name in settings.files)
                raise UsageError(f"{names} (or a file that it imports) changed during the run; run again")
            return made

        return Workbench(
            build=make,
            model_id=model_id,
            training=self.profile.training,
            device=device,
            seed=seed,
            threads=self.threads,
            progress=progress,
            cache=self.cache,
            producer=producer,
        )

    def key(self, stage: Stage, parent_key: str | None, after_key: str | None) -> str:
        """Return what identifies a stage's result: its chain, seed, data, model, numerics and code."""
        device, dataset = self.devices[0], self.dataset(stage.seed)
        own: list[Any] = []
        if stage.kind == "scan":  # which names its suspects by their files
            weights = self.suspect_weights()
            own = [weights and self._first("scan.weights", partial(file_digest, weights)), dataset.files]
        return digest(
            [
                VERSION,
                stage.recipe,
                stage.seed,
                parent_key,
                after_key,
                dataset.fingerprint,
                self.model_id(stage.seed),
                self.threads,
                device.type,
                resolve(self.profile.training.precision, device),
                ".".join(torch.__version__.split(".")[:2]),
                self.replicate,
                *own,
            ]
        )

    def suspect_weights(self) -> Path | None:
        """Return the file of the weights that a scan inspects. Raises `UsageError` if it is none."""
        weights = self.profile.scan.weights
        if not weights:
            return None
        path = require(weights, self.folders, "scan.weights")
        if not path.is_file():
            raise UsageError(f"scan.weights: {path} is a folder; name a file with weights")
        return path

    def check_suspect_weights(self) -> None:
        """Raise `UsageError` if the weights that a scan inspects are not those that its key is of."""
        weights = self.suspect_weights()
        if weights and file_digest(weights) != self._first("scan.weights", partial(file_digest, weights)):
            raise UsageError(f"scan.weights: {weights.name} changed during the run; run again")


def choose_devices(device: str) -> tuple[torch.device, ...]:
    """Return the devices that `device` means: `auto` is every GPU, or the CPU. Raises `UsageError`."""
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if device == "auto":
        return tuple(torch.device("cuda", i) for i in range(gpus)) or (torch.device("cpu"),)
    try:
        chosen = torch.device(device)
    except RuntimeError as error:
        raise UsageError(f"--device {device}: not a device; use auto, cpu, cuda or cuda:N") from error
    if chosen.type not in ("cpu", "cuda") or (chosen.type == "cuda" and (chosen.index or 0) >= gpus):
        raise UsageError(f"--device {device}: not available here; there are {gpus} GPUs. Use auto or cpu.")
    return (torch.device("cuda", chosen.index or 0) if chosen.type == "cuda" else chosen,)


def count_cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def share_cores(workers: int | None, devices: Sequence[torch.device]) -> tuple[int, int]:
    """Return the number of workers and the intra-op threads of each.

    On the CPU workers x threads never exceeds the cores: of more workers only as many are used. By default one worker
    per GPU, or per core up to four: small models gain more from a second stage than from a second thread, and one
    thread per stage is not slowed down by a busy neighbour.
    """
    cores = count_cores()
    on_gpu = devices[0].type == "cuda"
    if workers is None:
        workers = len(devices) if on_gpu else min(cores, 4)
    if not on_gpu:
        workers = min(workers, cores)
    return workers, max(1, cores // workers)
