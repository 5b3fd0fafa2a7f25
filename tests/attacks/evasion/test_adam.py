from __future__ import annotations

import torch

from safedl.attacks.evasion.adam import Adam


def test_the_steps_are_those_of_torch() -> None:
    values = torch.zeros(2, 3, requires_grad=True)
    ours, theirs = Adam(values.detach()), torch.optim.Adam([values], lr=1.0)
    position, rng = torch.zeros(2, 3), torch.Generator().manual_seed(0)
    for _ in range(5):
        values.grad = torch.randn(2, 3, generator=rng)
        position -= ours.direction(values.grad)
        theirs.step()
    assert torch.allclose(position, values.detach(), atol=1e-5)
