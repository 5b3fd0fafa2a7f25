"""What counts as the cost of a stage."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from typing import Any

import pytest

from safedl.catalog import DefenseSpec
from safedl.defenses import load
from safedl.pipeline import stages
from safedl.workspace import Workspace

from .conftest import Drive

FIRST_STAGE = """
import sys
from types import SimpleNamespace

import torch

from safedl.pipeline import stages
from safedl.progress import SILENT


class Watched:
    def __init__(self, *_):
        pass

    def run(self):
        loaded = set(sys.modules)
        weight = torch.zeros(1, requires_grad=True)
        weight.sum().backward()
        torch.optim.AdamW([weight], fused=True).step()
        return set(sys.modules) - loaded


state = torch.get_rng_state()
stages._Execution = Watched
added = stages.execute(SimpleNamespace(threads=1), SimpleNamespace(device=torch.device("cpu")), SILENT)
assert not added, f"{len(added)} modules, such as {min(added)}"
assert torch.equal(state, torch.get_rng_state())
"""


def test_what_torch_loads_once_is_not_the_cost_of_the_first_stage() -> None:
    """It took 1.3 seconds, and baseline@0 six times as long as baseline@1: costs differed as much between the seeds."""
    done = subprocess.run([sys.executable, "-c", FIRST_STAGE], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_what_a_defense_imports_is_not_its_cost(
    run: Drive, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Statistics that only one defense needs took up to 2.5 seconds: the first seed cost more than the next."""
    loaded = set[str]()

    def slowly(spec: DefenseSpec) -> Any:
        if spec.name not in loaded:
            time.sleep(3)
            loaded.add(spec.name)
        return load(spec)

    monkeypatch.setattr(stages, "load_defense", slowly)
    run(attacks=("label_flipping",), workers=1)
    found = [json.loads(path.read_text()) for path in workspace.results.glob("runs/*/result.json")]
    assert loaded == {"robust_loss"}
    assert all(document["timing"]["seconds"] < 3 for document in found)
