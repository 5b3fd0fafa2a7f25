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
_KEPT_AS = ("state_dict", "model_state_dict", "model", "net")
"""Where checkpoints of training scripts keep the weights, beside an epoch and an optimiser's state."""
_WRAPPERS = ("module.", "_orig_mod.", "model.")
"""What DataParallel, torch.compile and Lightning put before the names of weights."""


def load_weights(model: Classifier, path: Path) -> None:
    """Fill `model` with the state dict in `path`: the network's own, or that of a classifier saved by a run.

    The latter brings its normalisation with it. A checkpoint's state dict is taken out of it, and prefixes that all
    names have from wrappers come off. Raises `UsageError` if there is anything but the tensors that this model needs;
    nothing is changed then.
    """
    # Whose weights they are is told by the names they share: a network may have an attribute `net` of its own.
    choices = [(module, state) for state in _unwrapped(_read(path)) for module in (model.net, model)]
    target, state = max(choices, key=lambda choice: len(choice[0].state_dict().keys() & choice[1].keys()))
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


def _unwrapped(state: dict[str, Tensor]) -> list[dict[str, Tensor]]:
    """Return a state dict as it is, and without each of the wrappers' prefixes that all of its names begin with."""
    found = [state]
    while prefix := next((p for p in _WRAPPERS if found[-1] and all(n.startswith(p) for n in found[-1])), None):
        found.append({name.removeprefix(prefix): values for name, values in found[-1].items()})
    return found


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
    if isinstance(state, Mapping) and not all(map(_is_weight, state.items())):
        state = next((state[key] for key in _KEPT_AS if isinstance(state.get(key), Mapping)), state)
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
        if "TorchScript" in str(error):  # torch's own words advise to run what is in the file
            raise UsageError(
                f"weights: {path} is a TorchScript archive, which holds code; save weights alone with "
                "torch.save(model.state_dict(), ...)"
            ) from None
        raise UsageError(f"weights: cannot read {path}: {in_a_line(error)}") from None


def _read_safetensors(path: Path) -> Any:
    try:
        return load_file(path)
    except Exception as error:  # noqa: BLE001 - a damaged file fails in many ways
        raise UsageError(f"weights: cannot read {path}: {error}") from None
