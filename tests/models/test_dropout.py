"""Dropout with draws of its own."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from safedl.models.dropout import SeededDropout, seed_dropout


def test_share_scale_and_evaluation() -> None:
    layer = SeededDropout(0.3, seed=0)
    values = layer(torch.ones(100, 1000))
    assert values.unique().tolist() == pytest.approx([0, 1 / 0.7])
    assert float((values == 0).float().mean()) == pytest.approx(0.3, abs=0.01)
    assert torch.equal(layer.eval()(torch.ones(3, 3)), torch.ones(3, 3))


def test_draws_differ_within_a_training_and_repeat_in_the_next() -> None:
    layer, ones = SeededDropout(0.5, seed=0), torch.ones(64)
    first, second = layer(ones), layer(ones)
    assert not torch.equal(first, second)
    twin = copy.deepcopy(layer)
    assert torch.equal(twin(ones), layer(ones))
    layer.train()
    assert torch.equal(layer(ones), first)


def test_replacing_keeps_kinds_sharing_and_the_global_generator() -> None:
    shared = nn.Dropout(0.5)
    net = nn.Sequential(nn.Dropout2d(0.5), nn.Sequential(shared, nn.ReLU()), shared)
    seed_dropout(net, seed=7)
    assert not any(isinstance(m, nn.Dropout | nn.Dropout2d) for m in net.modules())
    assert net[1][0] is net[2]
    before = torch.get_rng_state()
    maps = net[0](torch.ones(4, 16, 5, 5))
    assert torch.equal(torch.get_rng_state(), before)
    per_map = maps.flatten(2).std(dim=2)
    assert float(per_map.max()) == 0.0 and 0 < float((maps == 0).float().mean()) < 1


def test_layers_and_seeds_have_different_draws() -> None:
    def masks(seed: int) -> list[torch.Tensor]:
        net = nn.ModuleList([nn.Dropout(0.5), nn.Dropout(0.5)])
        seed_dropout(net, seed)
        return [layer(torch.ones(64)) for layer in net]

    (one, two), (other, _) = masks(0), masks(1)
    assert not torch.equal(one, two) and not torch.equal(one, other)
    assert torch.equal(one, masks(0)[0])
