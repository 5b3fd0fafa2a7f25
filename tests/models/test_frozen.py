"""Frozen copies: the same answers and gradients, without batch normalisation."""

from __future__ import annotations

import threading

import pytest
import torch
from torch import Tensor, nn

from safedl.models.classifier import Classifier
from safedl.models.frozen import frozen
from tests.models.test_architectures import MODELS, _build, _data

SHAPE = (3, 12, 12)


class Branching(nn.Module):
    """Its path depends on the values."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.head = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 3)

    def forward(self, images: Tensor) -> Tensor:
        seen = self.norm(self.conv(images)).mean((2, 3))
        logits: Tensor = self.head(self.scale(seen))
        return logits

    def scale(self, seen: Tensor) -> Tensor:
        return seen if seen.sum() > 0 else seen * 2


class Peeping(Branching):
    """Uses its normalisation's numbers on the way, so that nothing can stand in for it."""

    def scale(self, seen: Tensor) -> Tensor:
        assert self.norm.running_mean is not None
        return seen * self.norm.running_mean.sum()


class Reused(nn.Module):
    """Looks at what comes out of the convolution in two ways: folding would change one of them."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.head = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 3)

    def forward(self, images: Tensor) -> Tensor:
        seen = self.conv(images)
        logits: Tensor = self.head((self.norm(seen) + seen).mean((2, 3)))
        return logits


def _trained(model: Classifier) -> Classifier:
    """Give batch normalisation something to remember, and weights of its own."""
    rng = torch.Generator().manual_seed(3)
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d):
            ranges = ((layer.running_mean, -1), (layer.running_var, 0.5), (layer.weight, 0.5), (layer.bias, -1))
            for values, low in ranges:
                assert values is not None
                values.data = low + 1.5 * torch.rand(values.shape, generator=rng)
    return model.eval()


def _answers(model: Classifier) -> tuple[Tensor, Tensor]:
    images = (_data(SHAPE).train.images.float() / 255).requires_grad_()
    logits = model(images)
    return logits, torch.autograd.grad(logits.sigmoid().sum(), images)[0]


@pytest.mark.parametrize("name", MODELS)
def test_every_architecture_answers_alike_without_batch_normalisation(name: str) -> None:
    model = _trained(_build(name, SHAPE))
    before = {n: v.clone() for n, v in model.state_dict().items()}
    copy = frozen(model)
    assert not any(isinstance(layer, nn.BatchNorm2d) for layer in copy.modules())
    assert not any(weight.requires_grad for weight in copy.parameters())
    for ours, theirs in zip(_answers(copy), _answers(model), strict=True):
        assert torch.allclose(ours, theirs, rtol=1e-3, atol=1e-4 * float(theirs.detach().abs().max()))
    assert all(torch.equal(before[n], v) for n, v in model.state_dict().items())


def test_a_path_that_depends_on_values_is_folded_too() -> None:
    model = _trained(Classifier(Branching(), (0.0,) * 3, (1.0,) * 3, SHAPE))
    copy = frozen(model)
    assert isinstance(copy.net.norm, nn.Identity) and isinstance(model.net.norm, nn.BatchNorm2d)
    assert torch.allclose(_answers(copy)[0], _answers(model)[0], atol=1e-5)


@pytest.mark.parametrize("kind", [Peeping, Reused])
def test_what_would_answer_otherwise_is_copied_as_it_is(kind: type[nn.Module]) -> None:
    model = _trained(Classifier(kind(), (0.0,) * 3, (1.0,) * 3, SHAPE))
    copy = frozen(model)
    assert isinstance(copy.net.norm, nn.BatchNorm2d) and copy.net is not model.net
    assert torch.allclose(_answers(copy)[0], _answers(model)[0], atol=1e-5)


def test_other_threads_do_not_notice() -> None:
    model, other = _trained(_build("resnet18", SHAPE)), _build("cnn", SHAPE)
    images = _data(SHAPE).train.images.float() / 255
    call, attribute = nn.Module.__call__, nn.Module.__getattr__
    failed: list[Exception] = []
    done = threading.Event()

    def work() -> None:
        try:
            while not done.is_set():
                other(images)
        except Exception as error:  # noqa: BLE001 - whatever it is, it must not be
            failed.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    for _ in range(3):
        frozen(model)
        assert nn.Module.__call__ is call and nn.Module.__getattr__ is attribute
    done.set()
    thread.join()
    assert not failed
