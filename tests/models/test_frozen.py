"""Frozen copies: the same answers and gradients, without batch normalisation."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from safedl.models.classifier import Classifier
from safedl.models.frozen import frozen
from tests.models.test_architectures import MODELS, _build, _data

SHAPE = (3, 12, 12)


class Branching(nn.Module):
    """Cannot be traced: its path depends on the values."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.head = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 3)

    def forward(self, images: Tensor) -> Tensor:
        seen = self.norm(self.conv(images)).mean((2, 3))
        logits: Tensor = self.head(self.scale(seen))
        return logits

    def scale(self, seen: Tensor) -> Tensor:
        return seen if seen.sum() > 0 else seen * 2


class Deceived(Branching):
    """Traced without an error, but wrongly: what a tracer sees is no tensor."""

    def scale(self, seen: Tensor) -> Tensor:
        return seen if isinstance(seen, Tensor) else seen * 2


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


@pytest.mark.parametrize("kind", [Branching, Deceived])
def test_what_cannot_be_traced_is_copied_as_it_is(kind: type[Branching]) -> None:
    model = _trained(Classifier(kind(), (0.0,) * 3, (1.0,) * 3, SHAPE))
    copy = frozen(model)
    assert isinstance(copy.net, kind) and copy.net is not model.net
    assert torch.allclose(_answers(copy)[0], _answers(model)[0], atol=1e-5)
