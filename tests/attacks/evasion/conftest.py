"""Digits that the shared model gets right."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from safedl.data.imageset import Dataset
from safedl.models.classifier import Classifier
from safedl.training.fit import to_float


@pytest.fixture
def digits_batch(digits: Dataset, clean_model: Classifier) -> tuple[Tensor, Tensor]:
    """Return 24 images, float [N, 1, 8, 8] in [0, 1], and their labels; `clean_model`'s weights are frozen."""
    clean_model.requires_grad_(False)
    images, labels = to_float(digits.test.images[:40], torch.device("cpu")), digits.test.labels[:40]
    right = clean_model(images).argmax(1) == labels
    return images[right][:24], labels[right][:24]
