"""Exported models answer as ours do, in a process that has nothing of Safe-DL."""

from __future__ import annotations

import importlib.util
import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from safedl.catalog import DEFENSES
from safedl.catalog.settings import ModelSettings
from safedl.cli.export import how_to_load
from safedl.cli.run import saved_request
from safedl.data.imageset import Dataset
from safedl.defenses import load_wrap
from safedl.defenses.guard import Guard
from safedl.errors import UsageError
from safedl.models.build import build
from safedl.models.classifier import Classifier
from safedl.models.weights import load_weights
from safedl.pipeline.takeout import open_run
from safedl.pipeline.takeout_model import read_model, to_graph, write_model
from safedl.profile.load import parse
from safedl.progress import SILENT
from tests.takeout.conftest import Place, drive_profile

DETECTOR = "static_patch/activation_clustering"

ELSEWHERE = """
import importlib.abc, json, sys
class Refuse(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name.split(".")[0] in ("safedl", "tui"):
            raise ImportError(name)
sys.meta_path.insert(0, Refuse())
import numpy as np, torch
from safetensors import safe_open
from torch import nn
torch.set_num_threads(1)

class Net(nn.Module):
    def __init__(self, filters, hidden, classes):
        super().__init__()
        self.conv = nn.Sequential(
            nn.Conv2d(1, filters, 3, padding=1), nn.BatchNorm2d(filters), nn.ReLU(),
            nn.Conv2d(filters, 2 * filters, 3, padding=1), nn.BatchNorm2d(2 * filters), nn.ReLU(), nn.MaxPool2d(2))
        self.fc = nn.Sequential(
            nn.Flatten(), nn.Linear(2 * filters * 16, hidden), nn.ReLU(), nn.Linear(hidden, classes))
    def forward(self, images):
        return self.fc(self.conv(images))

def from_description(file):
    about = json.load(open(file.rpartition(".")[0] + ".json"))
    with safe_open(file, "pt") as weights:
        assert json.loads(weights.metadata()["safedl"]) == {k: v for k, v in about.items() if k != "weights"}
        state = {name: weights.get_tensor(name) for name in weights.keys()}
    assert about["architecture"] == "cnn" and about["input"]["shape"] == [1, 8, 8]
    net = Net(about["params"]["conv_filters"], about["params"]["hidden_size"], len(about["classes"])).eval()
    net.load_state_dict({name.removeprefix("net."): v for name, v in state.items() if name.startswith("net.")})
    mean, std = (torch.tensor(about[key]).view(1, -1, 1, 1) for key in ("mean", "std"))
    return lambda images: net((images - mean) / std)

def from_onnx(file):
    import onnx.reference
    session = onnx.reference.ReferenceEvaluator(file)
    return lambda images: torch.from_numpy(session.run(None, {"images": images.numpy()})[0])

loaders = {"pt2": lambda file: torch.export.load(file).module(), "safetensors": from_description, "onnx": from_onnx}
images, target = torch.from_numpy(np.load(sys.argv[1])), sys.argv[2]
answers = []
for file in sys.argv[3:]:
    model = loaders[file.rpartition(".")[2]](file)
    with torch.no_grad():
        first, every = model(images[:1]), model(images)
    assert torch.allclose(first, every[:1], rtol=1e-3, atol=1e-5 * float(every.abs().max())), file
    answers.append(every.numpy())
assert not [name for name in sys.modules if name.split(".")[0] == "safedl"]
np.save(target, np.stack(answers))
"""
"""Loads exported files where our package is refused; a `.safetensors` is built again from its description alone."""


def _elsewhere(folder: Path, files: list[Path], images: Tensor) -> Tensor:
    """Return the logits [F, N, K] that a fresh process computes from exported files."""
    np.save(folder / "images.npy", images.numpy())
    words = [folder / "images.npy", folder / "logits.npy", *files]
    done = subprocess.run(
        [sys.executable, "-I", "-c", ELSEWHERE, *map(str, words)],
        cwd=folder, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return torch.from_numpy(np.load(folder / "logits.npy"))


def _ours(place: Place, run: str) -> Classifier:
    uid = place.runs[run]
    opened = open_run(place.workspace, uid, saved_request(place.workspace, place.experiment), SILENT)
    return read_model(opened, SILENT)


def _alike(first: Tensor, second: Tensor) -> bool:
    return torch.allclose(first, second, rtol=1e-3, atol=1e-5 * float(second.abs().max()))


MODULE = """
from torch import nn
def get_model(num_classes, width=4):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, width), nn.ReLU(), nn.Dropout(0.2), nn.Linear(width, num_classes))
"""
OWN = """
name: own
dataset: {name: digits, subset: 20}
model: {name: mine, type: custom, path: mine.py, params: {width: 6}}
training: {epochs: 1, precision: float32}
"""
ATTACKED = "attack_overrides: {data_poisoning: {label_flipping: {flip_rate: 0.2, target_class: 1}}}\n"


def test_a_fresh_process_without_our_package_gives_the_same_answers(
    place: Place, tmp_path: Path, digits: Dataset
) -> None:
    """A detector's model in every format; layers that a defense changed; a guard; a scan of a module's model."""
    (tmp_path / "mine.py").write_text(MODULE)
    own = drive_profile(tmp_path, OWN, scan=True)
    images = digits.test.images[:30].float() / 255
    exports = [
        (place, DETECTOR, "a.safetensors"), (place, DETECTOR, "a.pt2"), (place, "label_flipping/dp_training", "b.pt2"),
        (place, "fgsm/gradient_masking", "c.pt2"), (own, "scan", "d.pt2"),
    ]  # fmt: skip
    if importlib.util.find_spec("onnx") and importlib.util.find_spec("onnxscript"):
        exports.append((place, DETECTOR, "a.onnx"))
    files = []
    for where, run, name in exports:
        answer = where.export(run, "--model", tmp_path / name)
        assert answer.code == 0 and str(tmp_path / name) in answer.out.split(), answer.err
        files.append(tmp_path / name)
    for (where, run, name), given in zip(exports, _elsewhere(tmp_path, files, images), strict=True):
        assert _alike(given, _ours(where, run)(images)), name
    # Ours is the model that the run kept, and the guard counts.
    saved = torch.load(place.workspace.run_folder(place.runs[DETECTOR]) / "files" / "model.pt", weights_only=True)
    assert all(torch.equal(value, saved[name]) for name, value in _ours(place, DETECTOR).state_dict().items())
    assert not _alike(_ours(place, "fgsm/gradient_masking")(images), _ours(place, "baseline")(images))
    assert own.export("scan", "--model", tmp_path / "own.safetensors").code == 0
    about = json.loads((tmp_path / "own.json").read_text())
    assert about["module"] == "mine.py" and about["params"] == {"width": 6}


def test_a_module_that_has_changed_since_the_run_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(MODULE)
    own = drive_profile(tmp_path, OWN + ATTACKED)
    (tmp_path / "mine.py").write_text(MODULE.replace("nn.ReLU()", "nn.GELU()"))
    answer = own.export("label_flipping", "--model", tmp_path / "a.safetensors")
    assert answer.code == 2 and "mine.py (or a file that it imports) is not what run" in answer.err
    assert not (tmp_path / "a.safetensors").exists()
    # A run that did not record its model's code is exported with a word about it.
    path = own.workspace.run_folder(own.runs["baseline"]) / "result.json"
    path.write_text(json.dumps({k: v for k, v in json.loads(path.read_text()).items() if k != "model_code"}))
    answer = own.export("label_flipping", "--model", tmp_path / "a.safetensors")
    assert answer.code == 0 and "kept no record of its model's code" in answer.err


@pytest.mark.parametrize("module", [True, False])
def test_the_weights_that_a_run_started_from_are_not_needed(tmp_path: Path, digits: Dataset, module: bool) -> None:
    (tmp_path / "mine.py").write_text(MODULE)
    text = (
        OWN if module else OWN.replace("{name: mine, type: custom, path: mine.py, params: {width: 6}}", "{name: mlp}")
    )
    start = parse(text).model
    assert start is not None
    torch.save(build(start, digits, 3, [tmp_path]).state_dict(), tmp_path / "start.pt")
    model = next(line for line in text.splitlines() if line.startswith("model: "))
    own = drive_profile(tmp_path, text.replace(model, model[:-1] + ", weights: start.pt}") + ATTACKED)
    (tmp_path / "start.pt").unlink()
    answer = own.export("label_flipping", "--model", tmp_path / "a.safetensors")
    assert answer.code == 0, answer.err


def test_a_guard_that_is_no_graph_is_refused_and_its_weights_say_what_is_missing(place: Place, tmp_path: Path) -> None:
    answer = place.export("fgsm/jpeg_preprocessing", "--model", tmp_path / "a.pt2")
    assert answer.code == 2 and "JPEG compression is no tensor operation" in answer.err
    assert not list(tmp_path.iterdir())
    answer = place.export("fgsm/jpeg_preprocessing", "--model", tmp_path / "a.safetensors")
    assert answer.code == 0 and "behind jpeg_preprocessing" in answer.err
    guard = json.loads((tmp_path / "a.json").read_text())["guard"]
    assert guard["name"] == "jpeg_preprocessing" and guard["params"]["quality"] > 0


@pytest.mark.parametrize("name", [spec.name for spec in DEFENSES.values() if spec.kind == "guard"])
def test_every_guard_can_stand_before_a_model_again(name: str, clean_model: Classifier) -> None:
    guard = load_wrap(DEFENSES[name])(clean_model, DEFENSES[name].params())
    assert isinstance(guard, Guard) and guard.head == clean_model.head
    if guard.outside_graph:
        with pytest.raises(UsageError, match=r"export it as \.safetensors") as caught:
            to_graph(guard)
        assert guard.outside_graph in str(caught.value)
    else:
        to_graph(guard)


def test_weights_can_be_read_by_a_profile_again(place: Place, tmp_path: Path, digits: Dataset) -> None:
    assert place.export(DETECTOR, "--model", tmp_path / "a.safetensors").code == 0
    fresh = build(ModelSettings(name="cnn", params={"conv_filters": 8, "hidden_size": 32}), digits, 7)
    load_weights(fresh, tmp_path / "a.safetensors")
    images = digits.test.images[:5].float() / 255
    assert torch.allclose(fresh.eval()(images), _ours(place, DETECTOR)(images))


def test_refusals(place: Place, tmp_path: Path) -> None:
    assert "must end in .safetensors, .pt2, .onnx" in place.export("baseline", "--model", tmp_path / "a.pt").err
    for run in ("label_flipping/per_class_monitoring", "fgsm"):
        answer = place.export(run, "--model", tmp_path / "a.pt2")
        assert answer.code == 2 and "no model of its own" in answer.err
    (tmp_path / "b.json").write_text("mine")
    answer = place.export("baseline", "--model", tmp_path / "b.safetensors")
    assert answer.code == 2 and "b.json exists already" in answer.err
    assert [p.name for p in tmp_path.iterdir()] == ["b.json"]


def test_onnx_without_its_extra_says_what_to_install(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *a: None if name == "onnx" else find(name, *a))
    answer = place.export("baseline", "--model", tmp_path / "a.onnx")
    assert answer.code == 2 and "pip install 'safedl[onnx]'" in answer.err and len(answer.err.splitlines()) == 1


@pytest.mark.parametrize("name", ["mlp", "resnet18", "vit"])
def test_every_architecture_becomes_a_graph_for_any_number_of_images(digits: Dataset, name: str) -> None:
    model = build(ModelSettings(name=name), digits, 0).eval()
    graph = to_graph(model).module()
    images = digits.test.images[:50].float() / 255
    with torch.no_grad():
        assert all(_alike(graph(images[:count]), model(images[:count])) for count in (1, 2, 50))


class _Wayward(nn.Module):
    """Decides by the values in the batch, which no graph can."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(64, 10)

    def forward(self, images: Tensor) -> Tensor:
        flat = images.flatten(1)
        logits: Tensor = self.head(flat * 2 if bool(flat.sum() > 0) else flat)
        return logits


def test_a_model_that_torch_cannot_export_is_refused_for_pt2_alone(tmp_path: Path) -> None:
    model = Classifier(_Wayward(), [0.5], [1.0], (1, 8, 8)).eval()
    with pytest.raises(UsageError, match="cannot take this model"):
        to_graph(model)
    write_model(tmp_path / "a.safetensors", model, {"guard": None})
    assert (tmp_path / "a.safetensors").is_file() and (tmp_path / "a.json").is_file()


def test_weights_that_are_no_numbers_are_refused(tmp_path: Path, digits: Dataset) -> None:
    fresh = build(ModelSettings(name="mlp"), digits, 0)
    state = fresh.state_dict()
    broken = {**state, "net.output.bias": torch.full_like(state["net.output.bias"], torch.nan)}
    torch.save(broken, tmp_path / "nan.pt")
    with pytest.raises(UsageError, match=r"values that are no numbers, in net\.output\.bias"):
        load_weights(fresh, tmp_path / "nan.pt")
    assert all(values.isfinite().all() for values in fresh.state_dict().values())


@pytest.mark.parametrize("name", ["m.pt2", "m.safetensors"])
def test_a_full_disk_is_said_in_one_line(place: Place, tmp_path: Path, name: str) -> None:
    run = place.runs["static_patch/activation_clustering"]
    words = [
        sys.executable,
        "-m",
        "safedl",
        "--workspace",
        place.workspace.root,
        "export",
        run,
        "--model",
        tmp_path / name,
    ]
    command = f"ulimit -f 8; exec {shlex.join(map(str, words))}"
    unmeasured = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}  # it writes
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False, env=unmeasured)
    assert done.returncode == 1, done.stderr  # no other place would do: a fault of the machine
    told = "a file would grow beyond what is allowed here (ulimit -f); allow more"
    assert done.stderr == f"error: {tmp_path / name} cannot be written: {told}\n"
    assert list(tmp_path.iterdir()) == []


def test_a_folder_without_rights_is_said_before_anything_is_made(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.access", lambda _, mode: not mode & os.W_OK)
    answer = place.export("static_patch", "--model", tmp_path / "m.pt2", "--data", tmp_path / "d.npz")
    assert answer.code == 2 and "cannot be written: permission denied" in answer.err


def test_what_cannot_be_written_is_said_in_one_line(place: Place, tmp_path: Path) -> None:
    for options in (("--data", "/proc/x.npz"), ("--indices", "/proc/x.csv"), ("--model", "/proc/x.safetensors")):
        answer = place.export(DETECTOR, *options)
        assert answer.code == 2 and "/proc/x" in answer.err and "cannot be written" in answer.err, answer
    assert "must end in .csv" in place.export(DETECTOR, "--indices", tmp_path / "list.txt").err
    assert place.export(DETECTOR, "--model", tmp_path / "a.safetensors").code == 0
    (tmp_path / "plain").write_text("")
    assert (tmp_path / "a.safetensors").stat().st_mode == (tmp_path / "plain").stat().st_mode


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("m.pt2", 'load: torch.export.load("{}").module(); takes float32 [N, 1, 8, 8] in [0, 1]'),
        ("m.safetensors", 'load: safetensors.torch.load_file("{}")'),
    ],
)
def test_an_export_says_how_to_load_it(place: Place, tmp_path: Path, name: str, told: str) -> None:
    answer = place.export(DETECTOR, "--model", tmp_path / name)
    assert answer.code == 0 and told.format(tmp_path / name) in answer.err, answer
    assert "float32 [N, 1, 8, 8]" in answer.err and "load" not in answer.out
    if name.endswith(".safetensors"):
        assert f"{tmp_path / 'm.json'} says which network" in answer.err
    else:
        answered = torch.export.load(tmp_path / name).module()(torch.rand(2, 1, 8, 8))
        assert answered.shape == (2, 10)


def test_how_to_load_an_onnx_file() -> None:
    told = how_to_load(Path("m.onnx"), (3, 32, 32))
    assert told.startswith(
        'load: onnxruntime.InferenceSession("m.onnx"); "images" takes float32 [N, 3, 32, 32] in [0, 1]'
    )
