"""How workers and threads share the cores, and what a result depends on."""

from __future__ import annotations

import os
from dataclasses import replace

import pytest
import torch
from PIL import Image

from safedl.pipeline.check import check_against_data
from safedl.pipeline.driver import Request, open_lab
from safedl.pipeline.lab import share_cores
from safedl.plan import expand, expand_scan
from safedl.profile.load import check, parse
from safedl.progress import SILENT
from safedl.workspace import Workspace

from .conftest import PROFILE

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


def test_a_result_is_that_of_its_inputs_and_its_threads(workspace: Workspace) -> None:
    profile = parse(PROFILE)
    lab, _ = open_lab(workspace, Request(profile=profile, device="cpu", workers=1), "e")
    stage = expand(profile).stages[0]
    keys = {lab.key(stage, parent, after) for parent in (None, "a", "b") for after in (None, "c", "d")}
    assert len(keys) == 9
    assert replace(lab, threads=lab.threads + 1).key(stage, None, None) not in keys
    assert lab.key(stage, None, None) in keys


def test_a_scan_is_that_of_its_files_names_which_it_tells(workspace: Workspace) -> None:
    folder = workspace.root / "photos"
    for name in ("a", "b"):
        (folder / name).mkdir(parents=True)
        for i in range(3):
            Image.new("L", (8, 8), 40 * i + len(name)).save(folder / name / f"{i}.png")
    profile = check({"name": "mine", "dataset": {"path": str(folder)}, "model": {"name": "mlp"}})

    def key() -> str:
        lab, _ = open_lab(workspace, Request(profile, scan=True, device="cpu", workers=1), "e")
        return lab.key(expand_scan(profile).stages[0], None, None)

    before = key()
    assert key() == before
    (folder / "a" / "2.png").rename(folder / "a" / "9.png")
    assert key() != before


def test_data_is_read_once_for_all_seeds(workspace: Workspace) -> None:
    (workspace.root / "own.py").write_text(
        "from pathlib import Path\n"
        "import numpy as np\n\n\n"
        "def get_dataset():\n"
        "    with (Path(__file__).parent / 'reads').open('a') as file:\n"
        "        file.write('x')\n"
        "    labels = np.arange(200) % 2\n"
        "    images = np.random.default_rng(0).integers(0, 99, (200, 8, 8)).astype(np.uint8)\n"
        "    return {'x_train': images, 'y_train': labels}\n"
    )
    profile = check({"name": "mine", "dataset": {"path": str(workspace.root / "own.py")}, "model": {"name": "mlp"}})
    lab, _ = open_lab(workspace, Request(profile, device="cpu", workers=1), "e")
    check_against_data(lab, expand(profile, (0, 1, 2)), SILENT)
    prints = [lab.dataset(seed).fingerprint for seed in (0, 1, 2)]
    assert (workspace.root / "reads").read_text() == "x"
    assert len(set(prints)) == 3
    other, _ = open_lab(workspace, Request(profile, device="cpu", workers=1), "e")
    assert prints == [other.dataset(seed).fingerprint for seed in (0, 1, 2)], "as when each seed reads for itself"
