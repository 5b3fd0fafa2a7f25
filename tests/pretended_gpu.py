"""A GPU that is not there: tensors that say they lie on `cuda:0`, compute on the CPU, and may not be mixed with others.

What a real one refuses is refused: operations on tensors of two devices, NumPy on a tensor that was not brought back,
draws by a generator of another device. Kernels, precision and memory are those of the CPU.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves, tree_map

CPU, GPU = torch.device("cpu"), torch.device("cuda", 0)
ANY_DEVICES = frozenset({"__get__", "__set__", "_has_compatible_shallow_copy_type", "copy_", "type_as"})
MOVES = ("to", "cpu", "cuda")
_Generator = torch.Generator
_run_backward = torch.autograd._engine_run_backward
_register = torch.nn.Module.register_full_backward_hook


class OnGpu(Tensor):
    """A tensor that says it is on the GPU."""

    device = GPU  # type: ignore[assignment]
    is_cuda = True  # type: ignore[assignment]
    is_cpu = False  # type: ignore[assignment]

    def __deepcopy__(self, memo: dict[int, Any]) -> Tensor:
        if id(self) not in memo:
            with torch._C.DisableTorchFunction():
                values = _plain(self).detach().clone()
                memo[id(self)] = _on_gpu(values.requires_grad_(self.requires_grad), like=self)
        copy: Tensor = memo[id(self)]
        return copy

    def __reduce_ex__(self, protocol: Any) -> Any:
        return _plain(self).__reduce_ex__(protocol)


class Generator(_Generator):
    """A generator that remembers its device."""

    def __new__(cls, device: Any = CPU) -> Generator:
        self = super().__new__(cls)
        self.on_gpu = torch.device(device).type == "cuda"
        return self

    def __init__(self, device: Any = CPU) -> None:
        pass


class PretendedGpu(TorchFunctionMode):
    """Within it `device="cuda"` gives tensors that are `OnGpu`, in this thread."""

    def __torch_function__(
        self,
        function: Callable[..., Any],
        types: Any,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Do as the GPU would, or raise what it would."""
        given, name = dict(kwargs or {}), getattr(function, "__name__", "")
        if name in MOVES:
            return _moved(name, args[0], args[1:], given)
        leaves = tree_leaves((args, given))
        tensors = [leaf for leaf in leaves if isinstance(leaf, Tensor)]
        gpu = any(isinstance(t, OnGpu) for t in tensors)
        if gpu and name in ("numpy", "__array__"):
            raise TypeError("can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu() first")
        if gpu and name not in ANY_DEVICES and not _may_mix(name, args):
            for other in tensors:
                if not isinstance(other, OnGpu) and other.dim():
                    raise RuntimeError(f"{name}: tensors on cuda:0 and on cpu, of shape {tuple(other.shape)}")
        if (asked := _device(given.get("device"))) is not None:
            given["device"], gpu = CPU, asked.type == "cuda"
        elif name == "__getitem__":
            gpu = isinstance(args[0], OnGpu)
        for leaf in leaves:
            if isinstance(leaf, Generator) and leaf.on_gpu != gpu:
                raise RuntimeError(f"{name}: a generator of {'cuda' if leaf.on_gpu else 'cpu'} for another device")
        with torch._C.DisableTorchFunctionSubclass():
            result = function(*args, **given)
        return tree_map(lambda x: x if any(x is t for t in tensors) else _on_gpu(x), result) if gpu else result


@contextmanager
def pretended_gpu() -> Iterator[None]:
    """Pretend that there is a GPU: for all threads what asks about it, for this one its tensors."""
    answers: dict[str, Callable[..., Any]] = {
        "mem_get_info": lambda *_: (2**30, 2**30),
        "is_bf16_supported": lambda **_: False,
        "reset_peak_memory_stats": lambda *_: None,
        "max_memory_allocated": lambda *_: 0,
    }
    before = torch.__future__.get_overwrite_module_params_on_conversion()
    torch.__future__.set_overwrite_module_params_on_conversion(True)
    try:
        with ExitStack() as stack:
            for name, answer in answers.items():
                stack.enter_context(patch(f"torch.cuda.{name}", answer))
            stack.enter_context(patch("torch.Generator", Generator))
            stack.enter_context(patch("torch.nn.Module.register_full_backward_hook", _register_backward_hook))
            stack.enter_context(patch("torch.autograd._engine_run_backward", _backward))
            stack.enter_context(PretendedGpu())
            yield
    finally:
        torch.__future__.set_overwrite_module_params_on_conversion(before)


def _backward(*args: Any, **kwargs: Any) -> Any:
    """Let hooks run within the mode too, which torch leaves during backward passes."""
    with torch._C._EnableTorchFunction(), PretendedGpu():
        return _run_backward(*args, **kwargs)


def _register_backward_hook(module: torch.nn.Module, hook: Callable[..., Any], prepend: bool = False) -> Any:
    """Let a hook see gradients where the module is: autograd hands them over as they are computed, without a device."""

    def marking(module: torch.nn.Module, *gradients: Any) -> Any:
        there = any(isinstance(p, OnGpu) for p in module.parameters())
        return hook(module, *(tree_map(_on_gpu, gradients) if there else gradients))

    return _register(module, marking, prepend)


def _device(value: Any) -> torch.device | None:
    """Return the device that an argument names, or None."""
    if isinstance(value, str) and value.partition(":")[0] in ("cpu", "cuda"):
        return torch.device(value)
    return value if isinstance(value, torch.device) else None


def _plain(value: Any) -> Any:
    """Return a tensor without its device; other values as they are."""
    if not isinstance(value, OnGpu):
        return value
    with torch._C.DisableTorchFunctionSubclass():
        leaf = value.grad_fn is None
        return Tensor._make_subclass(Tensor, value, value.requires_grad) if leaf else value.as_subclass(Tensor)


def _on_gpu(value: Any, like: Any = None) -> Any:
    """Return a tensor as one on the GPU, a parameter if it, or `like`, is one; other values as they are."""
    if not isinstance(value, Tensor) or isinstance(value, OnGpu):
        return value
    with torch._C.DisableTorchFunctionSubclass():
        leaf = value.grad_fn is None
        marked = Tensor._make_subclass(OnGpu, value, value.requires_grad) if leaf else value.as_subclass(OnGpu)
    if isinstance(value if like is None else like, torch.nn.Parameter):
        marked._is_param = True  # type: ignore[attr-defined]
    return marked


def _moved(name: str, tensor: Tensor, rest: Sequence[Any], given: dict[str, Any]) -> Tensor:
    """Return what `to`, `cpu` or `cuda` gives: the tensor itself if nothing changes, a copy on another device."""
    named = [_device(x) for x in (*rest, given.get("device"))]
    like = [x.device for x in rest if isinstance(x, Tensor)]
    target = {"cpu": CPU, "cuda": GPU}.get(name) or next((d for d in (*named, *like) if d), tensor.device)
    if "device" in given:
        given["device"] = CPU
    base = _plain(tensor)
    with torch._C.DisableTorchFunctionSubclass():
        arguments = [CPU if _device(x) else _plain(x) for x in rest] if name == "to" else [CPU]
        result: Tensor = base.to(*arguments, **given)
        if result is base or (result.data_ptr() == base.data_ptr() and base.numel()):
            if target.type == tensor.device.type:
                return tensor
            result = result.clone()
    return _on_gpu(result) if target.type == "cuda" else result


def _may_mix(name: str, args: Sequence[Any]) -> bool:
    """Return whether an operation takes tensors of several devices: positions on the CPU, values that are copied."""
    if name == "__getitem__":
        return isinstance(args[0], OnGpu)
    if name != "__setitem__":
        return False
    place, key, value = args
    keys = key if isinstance(key, tuple) else (key,)
    by_position = any(isinstance(k, Tensor | list) for k in keys)
    if not isinstance(place, OnGpu) and any(isinstance(k, OnGpu) for k in keys):
        return False
    return not by_position or not isinstance(value, Tensor) or isinstance(value, OnGpu) == isinstance(place, OnGpu)
