"""Weights from a file: tensors only, never code."""

from __future__ import annotations

import pickle
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from safedl.errors import UsageError
from safedl.models.classifier import Classifier

_SHOWN = 3


def load_weights(model: Classifier, path: Path) -> None:
    """Fill `model` with the state dict in `path`: the network's own, or that of a classifier saved by a run.

    The latter brings its normalisation with it. Raises `UsageError` if the file holds anything but the tensors that
    this model needs; nothing is changed then.
    """
    state = _read(path)
    target = model if any(name.startswith("net.") for name in state) else model.net
    expected = target.state_dict()
    problems = _names("lacks", expected.keys() - state.keys()) + _names("does not know", state.keys() - expected.keys())
    for name in sorted(expected.keys() & state.keys()):
        if state[name].shape != expected[name].shape:
            problems.append(f"has {list(expected[name].shape)} for {name} where the file has {list(state[name].shape)}")
    if problems:
        raise UsageError(f"model.weights: {path} does not fit the model, which {'; '.join(problems[:_SHOWN])}")
    target.load_state_dict(state)


def _names(what: str, names: set[str]) -> list[str]:
    if not names:
        return []
    shown = ", ".join(sorted(names)[:_SHOWN])
    return [f"{what} {shown}{f' and {len(names) - _SHOWN} more' if len(names) > _SHOWN else ''}"]


def _read(path: Path) -> dict[str, Tensor]:
    if path.suffix == ".safetensors":
        state = _read_safetensors(path)
    elif path.suffix in {".pt", ".pth"}:
        state = _read_torch(path)
    else:
        raise UsageError(f"model.weights: {path} is not a .pt, .pth or .safetensors file")
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        raise UsageError(f"model.weights: {path} holds no state dict; save it with torch.save(model.state_dict(), ...)")
    return dict(state)


def _read_torch(path: Path) -> Any:
    try:
        with warnings.catch_warnings(action="ignore"):  # about the pickle's protocol; the refusal says enough
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise UsageError(
            f"model.weights: {path} holds pickled code, which is not run, or is damaged; "
            "save weights alone with torch.save(model.state_dict(), ...)"
        ) from None
    except Exception as error:  # noqa: BLE001 - a damaged archive fails in many ways
        raise UsageError(f"model.weights: cannot read {path}: {str(error).splitlines()[0]}") from None


def _read_safetensors(path: Path) -> Any:
    try:
        return load_file(path)
    except Exception as error:  # noqa: BLE001 - a damaged file fails in many ways
        raise UsageError(f"model.weights: cannot read {path}: {error}") from None
