"""All built-in classifiers: shapes, penultimate features, training steps, dropout."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import nn

from safedl.catalog.models import MODELS
from safedl.catalog.settings import ModelSettings, TrainingSettings
from safedl.data.imageset import Dataset, ImageSet
from safedl.errors import UsageError
from safedl.models.architectures import make
from safedl.models.build import build
from safedl.models.classifier import Classifier
from safedl.models.vit import Attention
from safedl.training.fit import fit

CPU = torch.device("cpu")
SMALL = {"resnet18": {"width": 8}, "resnet50": {"width": 8}, "vit": {"hidden_size": 32}}
PENULTIMATE = {"cnn": "fc.2", "mlp": "activation", "resnet18": "avgpool", "resnet50": "avgpool", "vit": "encoder.ln"}


def _data(shape: tuple[int, int, int], count: int = 12) -> Dataset:
    rng = torch.Generator().manual_seed(1)
    images = torch.randint(0, 256, (count, *shape), dtype=torch.uint8, generator=rng)
    part = ImageSet(images, torch.arange(count) % 3)
    return Dataset("random", ("a", "b", "c"), part, part, part, "")


def _build(name: str, shape: tuple[int, int, int] = (3, 12, 12), seed: int = 0) -> Classifier:
    return build(ModelSettings(name=name, params=SMALL.get(name, {})), _data(shape), seed)


@pytest.mark.parametrize("name", MODELS)
def test_head_applied_to_penultimate_features_gives_the_logits(name: str) -> None:
    model = _build(name)
    head = model.layer(model.head)
    assert isinstance(head, nn.Linear)
    nn.init.normal_(head.weight)  # a ViT's head starts at zero, which would agree with anything
    model.eval()
    images = torch.rand(4, 3, 12, 12)
    features, logits = model.with_features(images)
    assert model.penultimate == PENULTIMATE[name]
    assert logits.shape == (4, 3)
    torch.testing.assert_close(head(features), logits)
    assert logits.std(0).min() > 0


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 28, 20), (4, 33, 33)])
def test_any_small_shape_works(name: str, shape: tuple[int, int, int]) -> None:
    model = _build(name, shape).eval()
    assert model(torch.rand(2, *shape)).shape == (2, 3)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_training_changes_every_weight_and_repeats_itself(name: str, precision: str) -> None:
    data = _data((3, 12, 12))
    settings = TrainingSettings(epochs=2, batch_size=6, precision=precision)

    def train() -> Classifier:
        return fit(_build(name), data.train, settings, device=CPU, seed=3)

    fresh, trained, again = _build(name), train(), train()
    for (key, before), after in zip(fresh.named_parameters(), trained.parameters(), strict=True):
        assert after.isfinite().all() and not torch.equal(before, after), key
    for one, two in zip(trained.state_dict().values(), again.state_dict().values(), strict=True):
        assert torch.equal(one, two)


@pytest.mark.parametrize("name", MODELS)
def test_clone_is_independent_and_in_eval_mode(name: str) -> None:
    model = _build(name)
    twin = model.clone()
    assert model.training and not twin.training
    with torch.no_grad():
        twin.layer(twin.head).bias.add_(1)
    assert not torch.equal(model.layer(model.head).bias, twin.layer(twin.head).bias)


@pytest.mark.parametrize("name", MODELS)
def test_forward_mode_derivative_agrees_with_reverse_mode(name: str) -> None:
    model = _build(name).eval()
    nn.init.normal_(model.layer(model.head).weight)
    images, direction = torch.rand(2, 3, 12, 12), torch.randn(2, 3, 12, 12)
    _, forward = torch.func.jvp(lambda x: model(x).sum(), (images,), (direction,))
    reverse = torch.autograd.grad(model(images.requires_grad_()).sum(), images)[0]
    torch.testing.assert_close(forward, (reverse * direction).sum(), rtol=1e-3, atol=1e-3)


def test_attention_equals_torchs_own() -> None:
    ours = Attention(64, 2, batch_first=True)
    theirs = nn.MultiheadAttention(64, 2, batch_first=True)
    theirs.load_state_dict(ours.state_dict())
    tokens = torch.randn(3, 7, 64)
    torch.testing.assert_close(ours(tokens, tokens, tokens)[0], theirs(tokens, tokens, tokens)[0])


@pytest.mark.parametrize(("side", "maps"), [(32, 32), (64, 16)])
def test_resnet_stem_keeps_the_resolution_of_small_images(side: int, maps: int) -> None:
    net = make("resnet18", (3, side, side), 2, {"width": 4})
    seen: list[torch.Tensor] = []
    net.get_submodule("layer1").register_forward_pre_hook(lambda _m, inputs: seen.append(inputs[0]))
    net(torch.rand(2, 3, side, side))
    assert seen[0].shape == (2, 4, maps, maps)


@pytest.mark.parametrize(
    ("name", "params", "message"),
    [
        ("cnn", {"conv_filter": 3}, "conv_filter.*Did you mean 'conv_filters'"),
        ("cnn", {"hidden_size": 0}, "model.params.hidden_size"),
        ("mlp", {"input_size": 784}, "784 given, but the images have 64 values"),
        ("vit", {"hidden_size": 33}, "multiple of 32"),
        ("vit", {"patch_size": 9}, "patch_size: 9 is more than the side"),
        ("resnet19", {}, "Did you mean 'resnet18'"),
    ],
)
def test_unusable_names_and_parameters_are_refused(name: str, params: dict[str, int], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        make(name, (1, 8, 8), 10, params)


def test_cnn_refuses_images_that_pooling_would_use_up() -> None:
    with pytest.raises(UsageError, match="at least 2 pixels"):
        make("cnn", (1, 1, 8), 10, {})


def test_a_model_that_does_not_end_in_a_linear_layer_is_refused() -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(12, 3), nn.LogSoftmax(dim=1))
    with pytest.raises(UsageError, match=r"no penultimate layer.*not LogSoftmax"):
        Classifier(net, [0.5] * 3, [0.5] * 3, (3, 2, 2))


def test_normalisation_statistics_are_those_of_the_training_images() -> None:
    data = _data((3, 12, 12), count=50)
    model = build(ModelSettings(name="mlp"), data, 0)
    values = data.train.images.double().div(255)
    torch.testing.assert_close(model.mean.flatten().double(), values.mean((0, 2, 3)), rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(model.std.flatten().double(), values.std((0, 2, 3), correction=0), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(("key", "value"), [("input_shape", (3, 8, 8)), ("num_classes", 7)])
def test_announcing_what_the_data_is_not_is_refused(key: str, value: object) -> None:
    settings = ModelSettings.model_validate({"name": "mlp", key: value})
    with pytest.raises(UsageError, match=f"model.{key}.*announced, but data set 'random'"):
        build(settings, dataclasses.replace(_data((1, 8, 8))), 0)
