"""Shared fixtures: digits, a trained model and poisoned scenarios, each computed once a session."""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator
from typing import Any
from unittest.mock import patch

os.environ["OMP_NUM_THREADS"] = "1"  # read as NumPy and PyTorch are loaded, also by processes that tests start

import pytest
import torch

from safedl.catalog.settings import DatasetSettings, ModelSettings, TrainingSettings
from safedl.data.imageset import Dataset
from safedl.data.load import load
from safedl.models.build import build
from safedl.models.classifier import Classifier
from safedl.progress import Progress
from safedl.training.workbench import Workbench

RECIPE = TrainingSettings(epochs=12, batch_size=64, learning_rate=2e-3)


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> Iterator[None]:
    """Compute with one thread, whatever drivers in this process ask for: on busy cores two are many times slower."""
    torch.set_num_threads(1)
    with patch.object(torch, "set_num_threads"):
        yield


class Listening(Progress):
    """Adds what a computation says to a list."""

    def __init__(self, said: list[str]) -> None:
        self.said = said

    def log(self, message: str) -> None:
        self.said.append(message)


@functools.cache
def digits_dataset() -> Dataset:
    """Return digits, split by seed 0."""
    return load(DatasetSettings(name="digits"), seed=0)


def make_bench(dataset: Dataset, model: str = "cnn", seed: int = 0, **params: Any) -> Workbench:
    """Return a workbench without a cache; `params` are the model's."""
    settings = ModelSettings(name=model, params=params)
    return Workbench(lambda s: build(settings, dataset, s), model, RECIPE, torch.device("cpu"), seed)


@pytest.fixture(scope="session")
def digits() -> Dataset:
    """Return digits, split by seed 0."""
    return digits_dataset()


@pytest.fixture(scope="session")
def bench(digits: Dataset) -> Workbench:
    """Return a workbench for digits and `cnn`."""
    return make_bench(digits)


@functools.cache
def _clean_model() -> Classifier:
    dataset = digits_dataset()
    return make_bench(dataset).fit(dataset.train)


@pytest.fixture
def clean_model() -> Classifier:
    """Return a copy of a `cnn` trained on clean digits."""
    return _clean_model().clone()
