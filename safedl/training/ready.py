"""What torch does once in a process is the cost of no stage: it is done before a stage's clock starts."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from safedl.loading import LOADING

_READY: set[torch.device] = set()


def get_ready(device: torch.device) -> None:
    """Take one step of training by hand, once for each device.

    With the first optimiser torch loads its compiler, with the first step on a GPU its libraries: a second or more.
    The first stage would count it, and where that is a baseline all costs that are measured by it.
    """
    with LOADING:
        if device in _READY:
            return
        # A bare parameter: a layer would draw its weights from the generator that models are made with.
        weight = torch.zeros(1, 1, 1, 1, device=device, requires_grad=True)
        F.conv2d(torch.zeros(1, 1, 1, 1, device=device), weight).sum().backward()
        torch.optim.Adam([weight], fused=True).step()
        _READY.add(device)
