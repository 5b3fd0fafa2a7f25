"""Weights as downloads and training scripts bring them: in checkpoints, with wrappers' prefixes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from safedl.errors import UsageError
from safedl.models.classifier import Classifier
from safedl.models.weights import load_weights

State = dict[str, Tensor]


def _net(seed: int, width: int = 4) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Flatten(), nn.Linear(16, width), nn.BatchNorm1d(width), nn.ReLU(), nn.Linear(width, 3))


def _model(net: nn.Module) -> Classifier:
    return Classifier(net, [0.5], [0.25], (1, 4, 4))


def _prefixed(state: State, prefix: str) -> State:
    return {f"{prefix}{name}": values for name, values in state.items()}


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: {"state_dict": state, "epoch": 3, "optimizer": {"state": {}, "param_groups": []}},
        lambda state: {"model_state_dict": state, "loss": 0.5},
        lambda state: {"model": state, "net": 4},
        lambda state: _prefixed(state, "module."),
        lambda state: _prefixed(state, "_orig_mod.module."),
        lambda state: {"state_dict": _prefixed(state, "model."), "pytorch-lightning_version": "2"},
    ],
)
def test_checkpoints_and_wrappers_are_taken_off(tmp_path: Path, wrap: Callable[[State], Any]) -> None:
    trained = _net(1)
    torch.save(wrap(trained.state_dict()), tmp_path / "w.pt")
    model = _model(_net(2))
    load_weights(model, tmp_path / "w.pt")
    images = torch.rand(5, 1, 4, 4)
    assert torch.allclose(model.net.eval()(images), trained.eval()(images))
    assert float(model.mean) == 0.5


def test_prefixes_come_off_in_safetensors_and_of_a_whole_classifier(tmp_path: Path) -> None:
    trained = Classifier(_net(1), [0.125], [0.5], (1, 4, 4))
    save_file(_prefixed(trained.state_dict(), "module."), tmp_path / "w.safetensors")
    model = _model(_net(2))
    load_weights(model, tmp_path / "w.safetensors")
    assert float(model.mean) == 0.125 and torch.equal(model.net[1].weight, trained.net[1].weight)  # type: ignore[index]


def test_a_network_that_has_such_a_name_itself_keeps_it(tmp_path: Path) -> None:
    class Wrapped(nn.Module):
        def __init__(self, seed: int) -> None:
            super().__init__()
            self.module = _net(seed)

        def forward(self, images: Tensor) -> Tensor:
            logits: Tensor = self.module(images)
            return logits

    trained = Wrapped(1)
    torch.save(trained.state_dict(), tmp_path / "w.pt")
    model = _model(Wrapped(2))
    load_weights(model, tmp_path / "w.pt")
    assert torch.equal(model.net.state_dict()["module.1.weight"], trained.module[1].weight)


def test_what_does_not_fit_is_told_by_the_networks_own_names(tmp_path: Path) -> None:
    torch.save({"state_dict": _prefixed(_net(1, width=5).state_dict(), "module.")}, tmp_path / "w.pt")
    with pytest.raises(UsageError, match=r"has \[4\] for 1.bias where the file has \[5\]"):
        load_weights(_model(_net(2)), tmp_path / "w.pt")


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_a_torchscript_archive_is_refused_without_advice_to_run_it(tmp_path: Path) -> None:
    torch.jit.save(torch.jit.trace(_net(1).eval(), torch.rand(2, 1, 4, 4)), tmp_path / "w.pt")  # type: ignore[no-untyped-call]
    with pytest.raises(UsageError, match="is a TorchScript archive") as caught:
        load_weights(_model(_net(2)), tmp_path / "w.pt")
    assert "weights_only" not in str(caught.value)
