"""From settings to a fresh classifier: the only place where models are made."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from safedl.cache import digest, file_digest
from safedl.catalog.models import check_params
from safedl.catalog.settings import ModelSettings
from safedl.data.draws import seeded
from safedl.data.imageset import Dataset, tensor_digest
from safedl.data.usercode import call, code_digest, importing
from safedl.errors import UsageError, in_a_line
from safedl.lookup import require
from safedl.models import architectures
from safedl.models.classifier import Classifier
from safedl.models.dropout import seed_dropout
from safedl.models.weights import load_weights
from safedl.progress import SILENT, Progress

Module = TypeVar("Module", bound=nn.Module)

STATISTICS_SAMPLE = 10_000


def build(
    settings: ModelSettings, dataset: Dataset, seed: int, folders: Sequence[Path] = (), progress: Progress = SILENT
) -> Classifier:
    """Return a classifier for the data set's shape and classes, its weights drawn from `seed`.

    `folders` are searched for relative paths of modules and weights. Initialisation draws from global
    generators, so it happens under one process-wide lock and leaves them as they were.
    Raises `UsageError` if the announced shape or number of classes is not the data's, and for a module or
    weights that cannot be used.
    """
    _check(settings, dataset)
    mean, std = _statistics(dataset)
    module = _module(settings, folders)

    def make() -> Classifier:
        if module:
            try:
                net = _user_net(settings, dataset, module, seed, progress)
                return Classifier(net, mean, std, dataset.shape)
            except (UsageError, KeyboardInterrupt):
                raise
            except BaseException as error:  # the user's object may fail in any way when it is looked at
                raise UsageError(f"the model of {module} cannot be used: {in_a_line(error)}") from error
        net = architectures.make(settings.name, dataset.shape, len(dataset.classes), settings.params)
        prepare(net, seed)
        return Classifier(net, mean, std, dataset.shape)

    model = initialise(make, seed)
    if settings.weights:
        load_weights(model, require(settings.weights, folders, "model.weights"))
    return model


def initialise(make: Callable[[], Module], seed: int) -> Module:
    """Return what `make` draws from the global generators, seeded for it alone and left as they were.

    They are torch's, and those of numpy and Python, from which a user's network may draw.
    """
    with seeded(seed):
        return make()


def check_independent(one: Classifier, other: Classifier, settings: ModelSettings) -> None:
    """Raise `UsageError` unless two models that the user's module made for one seed are alike and nothing is shared.

    Each stage trains a model of its own, and starts where the others did.
    """
    first, second = ({p.untyped_storage().data_ptr() for p in made.parameters() if p.numel()} for made in (one, other))
    if one.net is other.net or first & second:
        raise UsageError(
            f"get_model() of {settings.own} returns the same parameters at each call; "
            "let it make a new network each time, inside the function"
        )
    if _values(one.net) != _values(other.net):
        raise UsageError(
            f"get_model() of {settings.own} gives other weights at each call, though the seed is the same; draw them "
            "from the global generators of torch, NumPy or Python, which are seeded, or from one with a fixed seed"
        )


def identity(settings: ModelSettings, dataset: Dataset, folders: Sequence[Path] = ()) -> str:
    """Return a hash of all that `build` depends on but the seed: contents of files, not their paths.

    Of a user's module it is the code, and layers and values of what this makes for one seed: it may read files of its
    own.
    Raises `UsageError` as `build` does for unknown names, parameters, missing files and what fails in a module.
    """
    module = _module(settings, folders)
    made: list[str] = []
    if module:  # first, for what it imports as it is called is part of its code
        made = _values(build(settings.model_copy(update={"weights": None}), dataset, 0, folders).net)
    return digest(
        {
            "model": [code_digest(module), *made] if module else settings.name,
            "params": settings.params if module else check_params(settings.name, settings.params).model_dump(),
            "weights": file_digest(require(settings.weights, folders, "model.weights")) if settings.weights else None,
            "shape": dataset.shape,
            "num_classes": len(dataset.classes),
            "statistics": _statistics(dataset),
        }
    )


def _values(net: nn.Module) -> list[str]:
    """Return how a network's layers are set up, the names of its weights and buffers, and the sha256 over these."""
    state = {name: value for name, value in net.state_dict().items() if isinstance(value, Tensor)}
    try:
        layers = re.sub(r" at 0x[0-9a-f]+", "", repr(net))  # functions among them are shown with their address
    except Exception:  # noqa: BLE001 - what a layer says of itself is its author's, and nothing else needs it
        layers = str([type(layer).__qualname__ for layer in net.modules()])
    return [layers, *state, tensor_digest(*state.values())]


def _check(settings: ModelSettings, dataset: Dataset) -> None:
    if settings.input_shape is not None and tuple(settings.input_shape) != dataset.shape:
        raise UsageError(
            f"model.input_shape: {list(settings.input_shape)} announced, but data set '{dataset.name}' "
            f"has {list(dataset.shape)} (channels, height, width)"
        )
    if settings.num_classes is not None and settings.num_classes != len(dataset.classes):
        raise UsageError(
            f"model.num_classes: {settings.num_classes} announced, "
            f"but data set '{dataset.name}' has {len(dataset.classes)}"
        )


def _statistics(dataset: Dataset) -> tuple[list[float], list[float]]:
    """Return mean and standard deviation of each channel over training images in [0, 1], of at most 10,000 images.

    Counted as histograms of whole numbers, so that they do not depend on the order of summation.
    """
    images = dataset.train.images
    sample = images[:: -(-len(images) // STATISTICS_SAMPLE)]
    levels = torch.arange(256, dtype=torch.float64) / 255
    mean, std = [], []
    for channel in sample.unbind(1):
        share = torch.bincount(channel.flatten(), minlength=256).double() / channel.numel()
        centre = float(share @ levels)
        mean.append(centre)
        std.append(max(float(share @ (levels - centre).square()) ** 0.5, 0.01))
    return mean, std


def prepare(net: nn.Module, seed: int) -> None:
    """Give dropout its own draws, and keep activations from overwriting what hooks have read."""
    seed_dropout(net, seed)
    for module in net.modules():
        if getattr(module, "inplace", False) is True:
            module.inplace = False  # type: ignore[assignment]


def _module(settings: ModelSettings, folders: Sequence[Path]) -> Path | None:
    """Return the user's module, or None for a built-in model."""
    return require(settings.own, folders, f"model.{'path' if settings.path else 'name'}") if settings.own else None


def _user_net(settings: ModelSettings, dataset: Dataset, path: Path, seed: int, progress: Progress) -> nn.Module:
    """Return the network of a user's module after a trial with two images."""
    count = len(dataset.classes)
    announced = {"num_classes": count, "input_shape": dataset.shape}
    made = call(path, "get_model", settings.params, announced, progress)
    net = uncompiled(made)
    if not isinstance(net, nn.Module):
        raise UsageError(f"get_model() of {path} returned {type(net).__name__}, not a torch.nn.Module")
    net = net.to("cpu")
    prepare(net, seed)
    images = torch.rand(2, *dataset.shape, generator=torch.Generator().manual_seed(seed))
    try:
        with importing(path):
            first, second = _trial(net, images), _trial(net, images)
    except Exception as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UsageError(
            f"the model of {path} fails on images [2, {', '.join(map(str, dataset.shape))}]: {reason}"
        ) from error
    if not isinstance(first, Tensor) or first.shape != (2, count):
        found = list(first.shape) if isinstance(first, Tensor) else type(first).__name__
        raise UsageError(f"the model of {path} gives {found} for two images, not logits [2, {count}]")
    if not first.is_floating_point() or not first.isfinite().all():
        fault = "not finite" if first.is_floating_point() else f"of type {first.dtype}"
        raise UsageError(f"the model of {path} gives logits that are {fault} for images in [0, 1]")
    if not torch.allclose(first, second):
        raise UsageError(
            f"the model of {path} draws random numbers of its own in training: the same images gave two results; "
            "use torch.nn.Dropout layers, which are given a seeded generator"
        )
    if not any(p.requires_grad for p in net.parameters()):
        raise UsageError(
            f"the model of {path} has nothing to train: all its parameters are frozen; set requires_grad on some"
        )
    check_gradient(second, f"the model of {path}")
    return net


def uncompiled(net: Any) -> Any:
    """Return what `torch.compile` was given, whose graphs pass hooks by; anything else as it is."""
    return getattr(net, "_orig_mod", net)


def check_gradient(logits: Tensor, what: str) -> None:
    """Raise `UsageError` that begins with `what` for logits of a network in training that lead back to no parameter."""
    if not logits.requires_grad:
        raise UsageError(f"{what} cannot be trained: its forward cuts the gradient, as torch.no_grad or detach do")


def _trial(net: nn.Module, images: Tensor) -> Tensor:
    """Return what a copy of `net` in training mode gives; a lazy layer of `net` itself takes its shape here."""
    with torch.no_grad():
        net.eval()(images)
    logits: Tensor = copy.deepcopy(net).train()(images)
    net.train()
    return logits
