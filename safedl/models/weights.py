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

from safedl.errors import UsageError, in_a_line
from safedl.models.classifier import Classifier

_SHOWN = 3


def load_weights(model: Classifier, path: Path) -> None:
    """Fill `model` with the state dict in `path`: the network's own, or that of a classifier saved by a run.

    The latter brings its normalisation with it. Raises `UsageError` if the file holds anything but the tensors that
    this model needs; nothing is changed then.
    """
    state = _read(path)
    # Which of the two is told by the names they share: a network may have an attribute `net` of its own.
    target = max((model.net, model), key=lambda module: len(module.state_dict().keys() & state.keys()))
    expected = target.state_dict()
    problems = _names("lacks", expected.keys() - state.keys()) + _names("does not know", state.keys() - expected.keys())
    for name in sorted(expected.keys() & state.keys()):
        if state[name].shape != expected[name].shape:
            problems.append(f"has {list(expected[name].shape)} for {name} where the file has {list(state[name].shape)}")
        elif (kind := _kind(state[name])) != _kind(expected[name]) and not _counts(state[name], expected[name]):
            problems.append(f"has {_kind(expected[name])} for {name} where the file has {kind}")
    if problems:
        raise UsageError(f"weights: {path} does not fit the model, which {'; '.join(problems[:_SHOWN])}")
    if broken := [name for name, values in state.items() if not values.to(expected[name].dtype).isfinite().all()]:
        raise UsageError(f"weights: {path} holds values that are no numbers, in {broken[0]}")
    target.load_state_dict(state)


def _kind(values: Tensor) -> str:
    """Return what kind of numbers values are: of one kind they can be taken for others, whatever their precision."""
    if values.layout != torch.strided or values.is_quantized or values.is_meta:
        return "sparse, quantised or absent values"
    return "floats" if values.is_floating_point() else "complex numbers" if values.is_complex() else "whole numbers"


def _counts(values: Tensor, expected: Tensor) -> bool:
    """Return whether floats stand for whole numbers, as where all of a state dict was cast to half precision."""
    if (_kind(values), _kind(expected)) != ("floats", "whole numbers"):
        return False
    return bool(((values == values.round()) & values.isfinite()).all())


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
        raise UsageError(f"weights: {path} is not a .pt, .pth or .safetensors file")
    if not isinstance(state, Mapping) or not all(map(_is_weight, state.items())):
        raise UsageError(f"weights: {path} holds no state dict; save it with torch.save(model.state_dict(), ...)")
    return dict(state)


def _is_weight(item: tuple[Any, Any]) -> bool:
    name, value = item
    return isinstance(name, str) and isinstance(value, Tensor)


def _read_torch(path: Path) -> Any:
    try:
        with warnings.catch_warnings(action="ignore"):  # about the pickle's protocol; the refusal says enough
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise UsageError(
            f"weights: {path} holds pickled code, which is not run, or is damaged; "
            "save weights alone with torch.save(model.state_dict(), ...)"
        ) from None
    except Exception as error:  # noqa: BLE001 - a damaged archive fails in many ways
        raise UsageError(f"weights: cannot read {path}: {in_a_line(error)}") from None


def _read_safetensors(path: Path) -> Any:
    try:
        return load_file(path)
    except Exception as error:  # noqa: BLE001 - a damaged file fails in many ways
        raise UsageError(f"weights: cannot read {path}: {error}") from None
