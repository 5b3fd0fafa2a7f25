"""How workers and threads share the cores."""

from __future__ import annotations

import os

import pytest
import torch

from safedl.pipeline.lab import share_cores

CPU, GPU = torch.device("cpu"), torch.device("cuda", 0)


@pytest.mark.parametrize(
    ("workers", "device", "shared"),
    [
        (None, CPU, (2, 1)), (1, CPU, (1, 2)), (2, CPU, (2, 1)), (3, CPU, (2, 1)),
        (None, GPU, (1, 2)), (3, GPU, (3, 1)),
    ],
)  # fmt: skip
def test_workers_share_two_cores(
    monkeypatch: pytest.MonkeyPatch, workers: int | None, device: torch.device, shared: tuple[int, int]
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1}, raising=False)
    assert share_cores(workers, [device]) == shared
