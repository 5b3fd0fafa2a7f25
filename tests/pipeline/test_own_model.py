"""Runs of a model of the user's own: what happens to its files while a run goes on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from safedl.cache import ArtifactCache
from safedl.errors import UsageError
from safedl.events import Event
from safedl.pipeline.driver import Request, drive, prepare
from safedl.profile.load import parse
from safedl.workspace import Workspace

MODULE = """
from torch import nn
from parts_of_run.width import WIDTH
def get_model(num_classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, WIDTH), nn.ReLU(), nn.Linear(WIDTH, num_classes))
"""
PROFILE = """
name: own
dataset: {name: digits, subset: 20}
model: {name: mine, path: mine.py}
training: {epochs: 1, precision: float32}
attack_overrides:
  data_poisoning:
    label_flipping: {flip_rate: 0.2, target_class: 1}
"""


def _write(root: Path, width: int) -> None:
    (root / "parts_of_run").mkdir(exist_ok=True)
    (root / "parts_of_run" / "width.py").write_text(f"WIDTH = {width}\n")
    (root / "mine.py").write_text(MODULE)


def _drive(workspace: Workspace, text: str, change: Callable[[], None] = lambda: None) -> dict[str, tuple[str, str]]:
    """Return each stage's last status and error; `change()` is called once the baseline is done."""
    prepared = prepare(workspace, Request(profile=parse(text), device="cpu", workers=1))
    events: list[Event] = []

    def listen(item: Event) -> None:
        events.append(item)
        if item["event"] == "run" and item["status"] == "completed" and len(_ended(events)) == 1:
            change()

    drive(workspace, prepared, listen)
    return _ended(events)


def _ended(events: list[Event]) -> dict[str, tuple[str, str]]:
    names = {s["uid"]: s["id"] for s in events[0]["stages"]}
    return {
        names[e["uid"]]: (e["status"], e.get("error", ""))
        for e in events
        if e["event"] == "run" and e["status"] != "running"
    }


@pytest.mark.parametrize("changed", ["mine.py", "parts_of_run/width.py", "start.pt"])
def test_a_stage_fails_when_a_file_of_the_model_has_changed(workspace: Workspace, changed: str) -> None:
    root = workspace.root
    _write(root, 9)
    text = PROFILE
    if changed == "start.pt":
        state = {"1.weight": torch.zeros(9, 64), "1.bias": torch.zeros(9)}
        state |= {"3.weight": torch.zeros(10, 9), "3.bias": torch.zeros(10)}
        torch.save(state, root / changed)
        text = PROFILE.replace("path: mine.py", "path: mine.py, weights: start.pt")

    def change() -> None:
        if changed == "start.pt":
            torch.save({**state, "3.bias": torch.ones(10)}, root / changed)
        else:
            (root / changed).write_text((root / changed).read_text() + "# changed\n")

    ended = _drive(workspace, text, change)
    assert ended["baseline@0"] == ("completed", "")
    status, error = ended["label_flipping@0"]
    assert status == "failed" and error.endswith("changed during the run; run again")
    assert Path(changed).name in error or "mine.py (or a file that it imports)" in error
    # What was made of the changed file is kept under no key of the old one, and the next run repeats everything.
    assert len([a for a in ArtifactCache(workspace.cache).entries() if a.kind == "model"]) == 1
    assert {status for status, _ in _drive(workspace, text).values()} == {"completed"}
    assert {status for status, _ in _drive(workspace, text).values()} == {"linked"}


def test_weights_of_a_scan_that_change_meanwhile_fail_it(workspace: Workspace) -> None:
    _write(workspace.root, 9)
    text = PROFILE.partition("attack_overrides")[0] + "scan: {weights: start.pt}\n"
    state = {"1.weight": torch.zeros(9, 64), "1.bias": torch.zeros(9)}
    state |= {"3.weight": torch.zeros(10, 9), "3.bias": torch.zeros(10)}
    torch.save(state, workspace.root / "start.pt")
    prepared = prepare(workspace, Request(profile=parse(text), device="cpu", workers=1, scan=True))
    torch.save({**state, "3.bias": torch.ones(10)}, workspace.root / "start.pt")
    with pytest.raises(Exception, match=r"start\.pt changed during the run; run again"):
        prepared.lab.check_suspect_weights()


@pytest.mark.parametrize(
    "ending",
    [
        "NET = make()\ndef get_model():\n    return NET\n",
        "import functools\nget_model = functools.lru_cache(make)\n",
        "SHARED = nn.Linear(64, 8)\ndef get_model():\n"
        "    return nn.Sequential(nn.Flatten(), SHARED, nn.ReLU(), nn.Linear(8, 10))\n",
        "BIAS = nn.Linear(8, 10).bias.data\ndef get_model():\n    net = make()\n    net[3].bias = nn.Parameter(BIAS)\n"
        "    return net\n",
    ],
)
def test_a_module_that_returns_one_network_for_all_is_refused(workspace: Workspace, ending: str) -> None:
    make = "def make():\n    return nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.ReLU(), nn.Linear(8, 10))\n"
    (workspace.root / "mine.py").write_text("from torch import nn\n" + make + ending)
    with pytest.raises(UsageError, match=r"get_model\(\) of mine\.py returns the same parameters at each call"):
        prepare(workspace, Request(profile=parse(PROFILE), device="cpu", workers=1))


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ("[1.weight, 3.bias, '3']", ""),
        ("[1.gain]", r"static_patch\.model_inspection\.layers: the model has no layer '1\.gain'.* It has: 0, 1, 2, 3$"),
        ("['0']", r"static_patch\.model_inspection\.layers: layer '0' has no weights$"),
    ],
)
@pytest.mark.parametrize("name", ["", "name: cnn, "])
def test_layers_of_an_own_model_are_checked_before_the_run(
    workspace: Workspace, layers: str, message: str, name: str
) -> None:
    _write(workspace.root, 9)
    text = PROFILE.partition("attack_overrides")[0].replace("name: mine, ", name)
    text += (
        "attack_overrides: {backdoor: {static_patch: {target_class: 2}}}\ndefense_config: {backdoor: {static_patch: "
    )
    text += f"{{defenses: [model_inspection], model_inspection: {{layers: {layers}, variant: literal}}}}}}}}\n"
    request = Request(profile=parse(text), device="cpu", workers=1)
    if message:
        with pytest.raises(UsageError, match=message):
            prepare(workspace, request)
    else:
        assert {status for status, _ in _drive(workspace, text).values()} == {"completed"}
