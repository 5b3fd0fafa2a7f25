"""Every stage on a GPU that is not there: nothing mixes devices, and what is written came back to the CPU."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import torch
from torch import nn

import safedl
from safedl.data.imageset import Dataset
from safedl.pipeline import driver, executor
from safedl.pipeline.driver import Request, drive, prepare
from safedl.profile.load import check
from safedl.store import queries
from safedl.workspace import Workspace
from tests.pretended_gpu import GPU, OnGpu, PretendedGpu, pretended_gpu

DETECTORS = ["activation_clustering", "spectral_signatures", "anomaly_detection"]
FEW = {"max_samples": 5}
SMALL: dict[str, Any] = {
    "name": "small",
    "dataset": {"name": "digits", "subset": 40},
    "model": {"name": "cnn"},
    "training": {"epochs": 2, "batch_size": 64},
    "threat_model": {"threat_categories": ["data_poisoning", "backdoor_attacks", "evasion_attacks"]},
}
PLAN = SMALL | {
    "attack_overrides": {
        "data_poisoning": {
            "label_flipping": {"flip_rate": 0.3, "target_class": 1},
            "clean_label": {"fraction_poison": 0.9, "target_class": 1, "max_iterations": 3},
        },
        "backdoor": {"static_patch": {"target_class": 1}, "learned_trigger": {"target_class": 1, "epochs_trigger": 1}},
        "evasion": {
            "fgsm": FEW,
            "pgd": FEW,
            "cw": FEW | {"max_iterations": 3},
            "deepfool": FEW,
            "nes": FEW | {"num_queries": 60},
            "spsa": FEW | {"num_steps": 2},
            "square": FEW | {"num_queries": 9},
            "hopskipjump": FEW | {"num_queries": 200},
            "transfer": FEW,
        },
    },
    "defense_config": {
        "data_poisoning": {
            "label_flipping": {"defenses": ["data_cleaning", "robust_loss", "dp_training", "per_class_monitoring"]},
            "clean_label": {"defenses": ["influence_functions", "provenance_tracking"]},
        },
        "backdoor": {
            "static_patch": {"defenses": [*DETECTORS, "pruning", "fine_pruning"], "fine_pruning": {"epochs": 1}},
            "learned_trigger": {"defenses": []},
        },
        "evasion": {
            "fgsm": {
                "defenses": ["adversarial_training", "randomized_smoothing", "jpeg_preprocessing", "gradient_masking"],
                "adversarial_training": {"epochs": 1, "num_steps": 2},
                "randomized_smoothing": {"num_samples": 20, "certify_samples": 20, "certify_images": 2},
            }
        },
    },
}


@pytest.fixture
def gpu() -> Iterator[None]:
    """Pretend that there is a GPU, in the threads of stages too."""
    execute = executor.execute

    def on_gpu(*args: Any) -> Any:
        with PretendedGpu():
            return execute(*args)

    def straight(function: Callable[..., Any], *args: Any, **_: Any) -> Any:  # what is saved for it loses its device
        return function(*args)

    with (
        patch.object(executor, "execute", on_gpu),
        patch.object(driver, "choose_devices", lambda _name: (GPU,)),
        patch("safedl.defenses.randomized_smoothing.checkpoint", straight),
        pretended_gpu(),
    ):
        yield


def run(folder: Path, document: dict[str, Any], **options: Any) -> dict[str, str]:
    """Run a profile and return why stages failed, by their ids."""
    workspace = Workspace.open(folder)
    prepared = prepare(workspace, Request(check(document), workers=1, **options))
    assert prepared.lab.devices == (GPU,)
    drive(workspace, prepared, lambda _event: None)
    rows = queries.runs(workspace.db, limit=1000)
    assert len(rows) == len(prepared.plan.stages)
    return {str(row.record.stage): row.error or row.status for row in rows if row.status != "completed"}


def test_what_a_gpu_refuses_is_refused(gpu: None) -> None:
    there, here = torch.zeros(3, device="cuda"), torch.ones(3)
    assert (there + 1).device == there[here.long().clamp(0, 2)].device == here.to("cuda").device == GPU
    assert there.cpu().numpy().tolist() == [0, 0, 0] and float((there + torch.tensor(2)).sum()) == 6
    assert isinstance(next(nn.Linear(2, 2).to("cuda").parameters()), nn.Parameter)
    with pytest.raises(RuntimeError, match="tensors on cuda:0 and on cpu"):
        there + here
    with pytest.raises(RuntimeError, match="tensors on cuda:0 and on cpu"):
        here[there.long()]
    with pytest.raises(RuntimeError, match="generator of cpu"):
        torch.randn(3, device="cuda", generator=torch.Generator())
    with pytest.raises(TypeError, match="numpy"):
        there.numpy()


def test_attacks_and_defenses_keep_devices_apart(gpu: None, tmp_path: Path) -> None:
    assert run(tmp_path, PLAN) == {}


def test_a_scan_keeps_devices_apart(gpu: None, tmp_path: Path) -> None:
    assert run(tmp_path, SMALL, scan=True) == {}


def test_a_module_of_ones_own_is_mended_there(gpu: None, digits: Dataset) -> None:
    module = nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(288, 10))
    images, labels = digits.trusted.images, digits.trusted.labels
    mended = safedl.repair(module, images, labels, "fine_pruning", device="cuda", training={"epochs": 1}).model
    assert not any(isinstance(p, OnGpu) for p in module.parameters())
    device = next(mended.parameters()).device
    assert mended(images[:2].float().to(device) / 255).shape == (2, 10)
