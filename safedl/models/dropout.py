"""Dropout that draws from a generator of its own: training runs in several threads, torch's generator is shared."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

_KINDS: dict[type[nn.Module], int] = {nn.Dropout: 0, nn.Dropout1d: 1, nn.Dropout2d: 2, nn.Dropout3d: 3}
"""Torch's layers, and how many trailing dimensions of a value are dropped together."""


class SeededDropout(nn.Module):
    """Drops each value with probability `p` in training and scales the others up by 1 / (1 - p).

    `together` trailing dimensions share one draw, as in torch's Dropout2d. The draws start anew with each
    call of `train()`, so a model continues alike whether it was just trained or loaded from a file.
    """

    def __init__(self, p: float, seed: int, together: int = 0) -> None:
        super().__init__()
        self.p, self.seed, self.together = p, seed, together
        self._generator: torch.Generator | None = None

    def train(self, mode: bool = True) -> SeededDropout:
        """Switch between training and evaluation; training begins with the first draws again."""
        if mode:
            self._generator = None
        return super().train(mode)

    def forward(self, values: Tensor) -> Tensor:
        """Return `values` [N, ...] unchanged in evaluation, with some of them dropped in training."""
        if not self.training or not self.p:
            return values
        if self._generator is None or self._generator.device != values.device:
            self._generator = torch.Generator(values.device).manual_seed(self.seed)
        drawn = values.shape[: values.ndim - self.together] + (1,) * self.together
        kept = torch.rand(drawn, generator=self._generator, device=values.device) >= self.p
        return values * kept / (1 - self.p)

    def extra_repr(self) -> str:
        """Return what `print(model)` shows."""
        return f"p={self.p}"


def seed_dropout(net: nn.Module, seed: int) -> None:
    """Replace torch's dropout layers inside `net` by seeded ones, each with its own draws."""
    made: dict[nn.Module, SeededDropout] = {}
    for name, module in list(net.named_modules(remove_duplicate=False)):
        if type(module) in _KINDS and name:
            if module not in made:
                own_seed = seed * 10_007 + len(made)
                made[module] = SeededDropout(float(module.p), own_seed, _KINDS[type(module)]).train(module.training)
            net.set_submodule(name, made[module])


def restore_dropout(net: nn.Module, given: nn.Module) -> None:
    """Put copies of the dropout layers of `given` back where `net`, of the same structure, has seeded ones."""
    own = dict(given.named_modules(remove_duplicate=False))
    made: dict[nn.Module, nn.Module] = {}
    for name, module in list(net.named_modules(remove_duplicate=False)):
        if isinstance(module, SeededDropout) and name and type(own.get(name)) in _KINDS:
            if module not in made:
                made[module] = copy.deepcopy(own[name]).train(module.training)
            net.set_submodule(name, made[module])
