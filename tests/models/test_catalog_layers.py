"""The catalog's layer names against the real modules."""

from __future__ import annotations

import pytest
from torch import nn

from safedl.catalog.models import MODELS, check_layer
from safedl.models.architectures import make

KINDS = {nn.Conv2d: "conv", nn.BatchNorm2d: "bn", nn.Linear: "fc"}


def _modules(name: str) -> dict[str, nn.Module]:
    params = {"width": 4} if name.startswith("resnet") else {}
    return {n: m for n, m in make(name, (3, 16, 16), 5, params).named_modules() if n}


@pytest.mark.parametrize("name", MODELS)
def test_catalog_lists_the_real_layers_in_order(name: str) -> None:
    modules = _modules(name)
    layers = MODELS[name].layers
    assert list(layers) == list(modules)
    for layer, module in modules.items():
        own = tuple(n for n, _ in module.named_parameters(recurse=False))
        kind = next((kind for cls, kind in KINDS.items() if isinstance(module, cls)), "other")
        assert (layers[layer].parameters, layers[layer].kind) == (own, kind), layer


@pytest.mark.parametrize("name", MODELS)
def test_every_layer_and_parameter_resolves_to_its_layer(name: str) -> None:
    for layer, module in _modules(name).items():
        assert check_layer(name, layer) == layer
        for parameter, _ in module.named_parameters(recurse=False):
            assert check_layer(name, f"{layer}.{parameter}") == layer


@pytest.mark.parametrize(
    ("model", "given", "meant"),
    [
        ("cnn", "conv1", "conv.0"),
        ("cnn", "conv2.weight", "conv.3"),
        ("cnn", "fc1", "fc.1"),
        ("cnn", "fc2.bias", "fc.3"),
        ("cnn", "bn2", "conv.4"),
        ("mlp", "fc1", "hidden"),
        ("mlp", "fc2", "output"),
        ("resnet18", "conv1", "conv1"),
        ("resnet18", "conv2", "layer1.0.conv1"),
        ("vit", "fc1", "encoder.layers.encoder_layer_0.self_attention.out_proj"),
    ],
)
def test_aliases_count_layers_of_a_kind(model: str, given: str, meant: str) -> None:
    assert check_layer(model, given) == meant


@pytest.mark.parametrize(
    "wrong", ["conv.9", "conv.2.weight", "conv3", "", ".weight", "conv.0.weight.weight", "net.conv.0"]
)
def test_unknown_layers_are_refused(wrong: str) -> None:
    with pytest.raises(ValueError, match="model 'cnn' has no layer"):
        check_layer("cnn", wrong)


def test_refusal_names_the_nearest_layer() -> None:
    with pytest.raises(ValueError, match=r"Did you mean 'layer4\.1\.conv2'"):
        check_layer("resnet18", "layer4.1.conv22")


def test_layers_of_other_models_are_not_judged() -> None:
    assert check_layer("user_model.py", "anything.at.all") == "anything.at.all"
