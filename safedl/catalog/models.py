"""The built-in classifiers: their parameters and the names of their layers, known without torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import Field, ValidationError

from safedl.catalog.spec import Params
from safedl.errors import UsageError, nearest

LayerKind = Literal["conv", "bn", "fc", "other"]
VIT_DEPTH = 6
"""Encoder layers of `vit`."""


@dataclass(frozen=True)
class Layer:
    """A layer's kind and the names of the parameters that it holds itself."""

    kind: LayerKind = "other"
    parameters: tuple[str, ...] = ()


@dataclass(frozen=True)
class ModelSpec:
    """A built-in classifier. `layers` stand in the order in which the network defines them."""

    name: str
    title: str
    summary: str
    params: type[Params]
    layers: Mapping[str, Layer]


class CnnParams(Params):
    """Parameters of `cnn`."""

    conv_filters: int = Field(32, ge=1, le=1024, description="Filters of the first convolution; the second has twice.")
    hidden_size: int = Field(128, ge=1, le=65_536, description="Units of the penultimate layer.")


class MlpParams(Params):
    """Parameters of `mlp`."""

    hidden_size: int = Field(128, ge=1, le=65_536, description="Units of the hidden layer.")
    input_size: int | None = Field(None, ge=1, description="Values of an image, to be checked against the data.")


class ResnetParams(Params):
    """Parameters of `resnet18` and `resnet50`."""

    width: int = Field(64, ge=4, le=512, description="Filters of the first stage; 16 suits a machine without a GPU.")


class VitParams(Params):
    """Parameters of `vit`."""

    hidden_size: int = Field(128, ge=32, le=4096, multiple_of=32, description="Width of a token; 32 to each head.")
    patch_size: int | None = Field(
        None, ge=1, le=256, description="Side of a patch; else chosen from the image's side."
    )
    dropout: float = Field(0.0, ge=0, lt=1, description="Share of values dropped in training.")


_WEIGHT = ("weight",)
_AFFINE = ("weight", "bias")
_CONV, _PLAIN_CONV = Layer("conv", _AFFINE), Layer("conv", _WEIGHT)
_NORM, _LINEAR, _OTHER = Layer("bn", _AFFINE), Layer("fc", _AFFINE), Layer()

_CNN = {
    "conv": _OTHER, "conv.0": _CONV, "conv.1": _NORM, "conv.2": _OTHER, "conv.2.0": _OTHER, "conv.2.1": _OTHER,
    "conv.3": _CONV, "conv.4": _NORM, "conv.5": _OTHER, "conv.6": _OTHER,
    "fc": _OTHER, "fc.0": _OTHER, "fc.1": _LINEAR, "fc.2": _OTHER, "fc.3": _LINEAR,
}  # fmt: skip
_MLP = {"hidden": _LINEAR, "activation": _OTHER, "output": _LINEAR}


def _resnet(blocks: tuple[int, ...], convolutions: int) -> dict[str, Layer]:
    """Return the layers of a ResNet with `convolutions` to a block: 2 in a basic block, 3 in a bottleneck."""
    layers = {"conv1": _PLAIN_CONV, "bn1": _NORM, "relu": _OTHER, "maxpool": _OTHER}
    for stage, count in enumerate(blocks, start=1):
        layers[f"layer{stage}"] = _OTHER
        for block in range(count):
            prefix = f"layer{stage}.{block}"
            layers[prefix] = _OTHER
            layers |= {f"{prefix}.{name}": layer for name, layer in _resnet_block(convolutions)}
            if block == 0 and (stage > 1 or convolutions == 3):
                layers[f"{prefix}.downsample"] = _OTHER
                layers[f"{prefix}.downsample.0"] = _PLAIN_CONV
                layers[f"{prefix}.downsample.1"] = _NORM
    return layers | {"avgpool": _OTHER, "fc": _LINEAR}


def _resnet_block(convolutions: int) -> Iterator[tuple[str, Layer]]:
    for number in range(1, convolutions + 1):
        yield f"conv{number}", _PLAIN_CONV
        yield f"bn{number}", _NORM
        if number == (1 if convolutions == 2 else convolutions):
            yield "relu", _OTHER


def _vit() -> dict[str, Layer]:
    layers = {
        "conv_proj": _CONV, "encoder": Layer("other", ("pos_embedding",)), "encoder.dropout": _OTHER,
        "encoder.layers": _OTHER,
    }  # fmt: skip
    block = {
        "ln_1": Layer("other", _AFFINE), "self_attention": Layer("other", ("in_proj_weight", "in_proj_bias")),
        "self_attention.out_proj": _LINEAR, "dropout": _OTHER, "ln_2": Layer("other", _AFFINE), "mlp": _OTHER,
        "mlp.0": _LINEAR, "mlp.1": _OTHER, "mlp.2": _OTHER, "mlp.3": _LINEAR, "mlp.4": _OTHER,
    }  # fmt: skip
    for number in range(VIT_DEPTH):
        prefix = f"encoder.layers.encoder_layer_{number}"
        layers[prefix] = _OTHER
        layers |= {f"{prefix}.{name}": layer for name, layer in block.items()}
    return layers | {"encoder.ln": Layer("other", _AFFINE), "heads": _OTHER, "heads.head": _LINEAR}


_SPECS = (
    ModelSpec("cnn", "Small CNN", "Two convolutions and two linear layers.", CnnParams, _CNN),
    ModelSpec("mlp", "MLP", "One hidden layer.", MlpParams, _MLP),
    ModelSpec(
        "resnet18", "ResNet-18", "18-layer residual network, stem fit for small images.",
        ResnetParams, _resnet((2, 2, 2, 2), 2),
    ),
    ModelSpec(
        "resnet50", "ResNet-50", "50-layer residual network, stem fit for small images.",
        ResnetParams, _resnet((3, 4, 6, 3), 3),
    ),
    ModelSpec("vit", "Vision transformer", f"{VIT_DEPTH} encoder layers over small patches.", VitParams, _vit()),
)  # fmt: skip

MODELS: dict[str, ModelSpec] = {spec.name: spec for spec in _SPECS}


def model(name: str) -> ModelSpec:
    """Return the built-in model called `name`. Raises `UsageError` with the nearest name."""
    if name not in MODELS:
        raise UsageError(
            f"model.name: unknown model '{name}'.{nearest(name, MODELS)} Known: {', '.join(MODELS)}; "
            "your own model needs model.path or 'type: custom'"
        )
    return MODELS[name]


def check_params(name: str, values: Mapping[str, Any]) -> Params:
    """Return the checked parameters of a built-in model. Raises `UsageError` naming the first one that is wrong."""
    schema = model(name).params
    try:
        return schema.model_validate(dict(values))
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        if first["type"] == "extra_forbidden":
            allowed = schema.model_fields
            raise UsageError(
                f"model.params.{key}: model '{name}' has no such parameter.{nearest(key, allowed)} "
                f"Known: {', '.join(allowed)}"
            ) from None
        raise UsageError(f"model.params.{key}: {first['msg']}, not {first['input']!r}") from None


def check_layer(model: str, name: str) -> str:
    """Return the layer of a built-in model that `name` means.

    `name` is a layer (`conv.0`), one of its parameters (`conv.0.weight`) or an alias by order
    (`conv1`, `bn1`, `fc2`, `fc2.weight`). The layers of other models are not known here: `name` comes back as it is.
    Raises `ValueError` with the allowed names and the nearest one.
    """
    if model not in MODELS:
        return name
    layers = MODELS[model].layers
    aliases = _aliases(layers)
    head, _, parameter = name.rpartition(".")
    for candidate, wanted in ((name, ""), (head, parameter)):
        resolved = candidate if candidate in layers else aliases.get(candidate)
        if resolved and (not wanted or wanted in layers[resolved].parameters):
            return resolved
    weighted = [layer for layer, about in layers.items() if about.parameters]
    raise ValueError(
        f"model '{model}' has no layer '{name}'.{nearest(name, [*layers, *aliases])} "
        f"Layers with weights: {', '.join(weighted[:12])}{' ...' if len(weighted) > 12 else ''}"
    )


def _aliases(layers: Mapping[str, Layer]) -> dict[str, str]:
    """Return names by order, `conv2` for the second convolution; a layer that is really called so comes first."""
    counts: dict[str, int] = {}
    aliases: dict[str, str] = {}
    for name, layer in layers.items():
        if layer.kind != "other":
            counts[layer.kind] = counts.get(layer.kind, 0) + 1
            aliases[f"{layer.kind}{counts[layer.kind]}"] = name
    return aliases
