"""The library: its documented examples run, its names are lazy, and bad input gets one sentence."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import safedl
from safedl.data.imageset import Dataset
from safedl.errors import UsageError
from safedl.models.classifier import Classifier
from safedl.store.migrate import ensure
from tests.store.samples import Workplace, experiment, finished, tree

GUIDE = Path(__file__).parents[1] / "docs" / "library.md"


def test_the_guides_examples_run_and_do_what_they_say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    workplace = Workplace(tmp_path)
    workplace.begin(experiment(), tree())
    for uid in ("base", "attack", "clean"):
        workplace.apply(finished(uid, {"clean_accuracy": 0.97}))
    workplace.recorder.close()
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SAFEDL_DB", raising=False)
    blocks = re.findall(r"```python\n(.*?)```", GUIDE.read_text(), re.DOTALL)
    names: dict[str, Any] = {}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for block in blocks:
            exec(compile(block, str(GUIDE), "exec"), names)
    said = capsys.readouterr().out
    poison, found = names["poisoned"], names["found"]
    assert f"{int(poison.mask.sum())} of {len(poison.data)} images carry the trigger" in said
    assert (found.flagged & poison.mask).sum() > 0.8 * poison.mask.sum()
    assert (found.flagged & ~poison.mask).sum() < 0.1 * (~poison.mask).sum()
    triggered = poison.trigger.apply(poison.data.images).float() / 255
    with torch.no_grad():
        before = (names["model"](triggered).argmax(1) == 7).float().mean()
        right = names["mended"].model.net(names["images"]).argmax(1) == names["labels"]
    assert before > 0.8 and names["asr"] < 0.5 and right.float().mean() > 0.85
    assert "static_patch data_cleaning 0.97" in said
    assert {"kind": "bound", "runs": 2} in names["answer"].as_dicts()


def test_importing_the_package_loads_nothing_heavy() -> None:
    code = (
        "import sys, safedl\n"
        "assert set(safedl.__all__) <= set(dir(safedl))\n"
        "safedl.Workspace, safedl.query, safedl.UsageError\n"
        "print(*sorted(m for m in sys.modules if '.' not in m))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"torch", "numpy", "sklearn", "sqlalchemy", "pydantic"} & set(done.stdout.split())


def test_every_public_name_is_there_and_others_are_not() -> None:
    assert all(getattr(safedl, name) is not None for name in safedl.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = safedl.nothing  # type: ignore[attr-defined]


def test_attacks_that_need_a_model_take_ones_own(digits: Dataset, clean_model: Classifier) -> None:
    train = digits.train
    with pytest.raises(UsageError, match="needs a model trained on these images"):
        safedl.poison(train.images, train.labels, "clean_label")
    before = {name: value.clone() for name, value in clean_model.state_dict().items()}
    made = safedl.poison(train.images, train.labels, "clean_label", model=clean_model, max_iterations=1)
    assert made.mask.any() and torch.equal(made.data.labels, train.labels)
    assert all(torch.equal(value, before[name]) for name, value in clean_model.state_dict().items())


def test_poison_depends_on_the_seed_alone(digits: Dataset) -> None:
    def masks(seed: int) -> torch.Tensor:
        return safedl.poison(digits.train.images, digits.train.labels, "label_flipping", flip_rate=0.1, seed=seed).mask

    assert torch.equal(masks(1), masks(1)) and not torch.equal(masks(1), masks(2))


def _features(poison: int = 30) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Two classes of 200 samples in 8 dimensions, `poison` of the second shifted, and which are."""
    rng = torch.Generator().manual_seed(0)
    labels = torch.arange(2).repeat_interleave(200)
    features = torch.randn(400, 8, generator=rng) + 4 * labels.unsqueeze(1)
    bad = torch.zeros(400, dtype=torch.bool)
    bad[200 : 200 + poison] = True
    features[bad] += torch.tensor([0, 0, 0, 0, 0, 0, 0, 12.0])
    return features, labels, bad


@pytest.mark.parametrize(
    ("detector", "trusted"),
    [
        ("activation_clustering", False), ("spectral_signatures", False),
        ("activation_clustering", True), ("spectral_signatures", True), ("anomaly_detection", True),
    ],
)  # fmt: skip
def test_every_detector_of_features_finds_a_shifted_group(detector: str, trusted: bool) -> None:
    features, labels, bad = _features()
    known: dict[str, Any] = {}
    if trusted:
        rng = torch.Generator().manual_seed(1)
        known_labels = torch.arange(2).repeat_interleave(40)
        known = {
            "trusted_features": torch.randn(80, 8, generator=rng) + 4 * known_labels.unsqueeze(1),
            "trusted_labels": known_labels,
        }
    found = safedl.detect(features.numpy(), labels.tolist(), detector, **known)
    worst = found.scores[labels == 1].topk(30).indices + 200
    assert bad[worst].float().mean() > 0.8
    if trusted:
        assert found.flagged[bad].float().mean() > 0.8 and found.flagged[~bad].float().mean() < 0.1


def test_a_module_of_ones_own_is_repaired_by_pruning_and_stays_as_it_is(digits: Dataset) -> None:
    poisoned = safedl.poison(digits.train.images, digits.train.labels, "static_patch", target_class=3)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = nn.Sequential(
            nn.Conv2d(1, 12, 3, padding=1), nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(12 * 64, 10)
        )
        optimizer = torch.optim.Adam(module.parameters(), lr=5e-3)
        images = (poisoned.data.images.float() / 255 - 0.3) / 0.4
        for _ in range(30):
            optimizer.zero_grad()
            nn.functional.cross_entropy(module(images), poisoned.data.labels).backward()
            optimizer.step()
    before = {name: value.detach().clone() for name, value in module.state_dict().items()}
    trusted = digits.trusted
    mended = safedl.repair(
        module, trusted.images, trusted.labels, "pruning", mean=[0.3], std=[0.4], training={"epochs": 2}
    )
    assert type(mended.model.net) is type(module) and mended.details["trusted_used"] == len(trusted)
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    with torch.no_grad():
        right = mended.model(trusted.images.float() / 255).argmax(1) == trusted.labels
    assert right.float().mean() > 0.7


@pytest.mark.parametrize("defense", ["pruning", "fine_pruning"])
def test_a_repaired_module_keeps_its_kinds_of_layers_and_flags(digits: Dataset, defense: str) -> None:
    shared = nn.Dropout(0.25)
    module = nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(inplace=True), nn.Dropout2d(0.1, inplace=True), nn.Flatten(),
        nn.Sequential(shared, nn.Linear(256, 16), nn.ReLU(), shared), nn.Linear(16, 10),
    )  # fmt: skip
    module[0].requires_grad_(False)
    trusted = digits.trusted
    mended = safedl.repair(module, trusted.images, trusted.labels, defense, training={"epochs": 1})
    net = mended.model.net
    assert str(net) == str(module) and not net.training and not any(m.training for m in net.modules())
    assert [type(m) for m in net.modules()] == [type(m) for m in module.modules()]
    flags = [(name, p.requires_grad) for name, p in module.named_parameters()]
    assert [(name, p.requires_grad) for name, p in net.named_parameters()] == flags
    assert net[4][0] is net[4][3] and net[4][0] is not shared
    assert mended.model(trusted.images[:4].float() / 255).shape == (4, 10)


class _Odd(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(64))
        self.conv = nn.Conv2d(1, 4, 3, padding=1)
        self.head = nn.Linear(256, 10)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        flat = (images.flatten(1) * self.scale).view_as(images)
        logits: torch.Tensor = self.head(self.conv(flat).relu().flatten(1))
        return logits


def test_what_cannot_be_used_gets_one_sentence(digits: Dataset) -> None:
    images, labels = digits.trusted.images, digits.trusted.labels
    features, given, _ = _features()
    calls: dict[str, Callable[[], Any]] = {
        "unknown attack 'statik'": lambda: safedl.poison(images, labels, "statik"),
        "attacks at test time": lambda: safedl.poison(images, labels, "fgsm"),
        "static_patch.target_class: 99": lambda: safedl.poison(images, labels, "static_patch", target_class=99),
        "unknown parameter of static_patch": lambda: safedl.poison(images, labels, "static_patch", size=2),
        "200 images, but 199 labels": lambda: safedl.poison(images, labels[:199], "static_patch"),
        "needs more than features; those that do not: ": lambda: safedl.detect(features, given, "data_cleaning"),
        "expected \\[N, D\\]": lambda: safedl.detect(features[0], given, "spectral_signatures"),
        "labels must be whole numbers 0 to K - 1, found 0.6": lambda: safedl.detect(
            features, [0.6] * 400, "spectral_signatures"
        ),
        "labels must be whole numbers 0 to K - 1, not texts": lambda: safedl.detect(
            features, ["a"] * 400, "spectral_signatures"
        ),
        "complex numbers cannot be used": lambda: safedl.detect(features + 1j, given, "spectral_signatures"),
        "a label of 3000000 makes 3000001 classes for 400 samples": lambda: safedl.detect(
            features, given.masked_fill(torch.arange(400) == 7, 3_000_000), "spectral_signatures"
        ),
        "some are not finite": lambda: safedl.detect(features / 0, given, "spectral_signatures"),
        "detect: trusted_features: some are not finite": lambda: safedl.detect(
            features, given, "spectral_signatures", trusted_features=features / 0, trusted_labels=given
        ),
        r"detect: features: there are no features in shape \[400, 0\]": lambda: safedl.detect(
            features[:, :0], given, "activation_clustering"
        ),
        "must come together": lambda: safedl.detect(features, given, "spectral_signatures", trusted_labels=given),
        "does not mend a model": lambda: safedl.repair(nn.Linear(64, 10), images, labels, "data_cleaning"),
        "training.epochs: 0 is not": lambda: safedl.repair(_Odd(), images, labels, "pruning", training={"epochs": 0}),
        "the module fails on images": lambda: safedl.repair(nn.Linear(5, 10), images, labels, "pruning"),
        "has no reset_parameters": lambda: safedl.repair(_Odd(), images, labels, "pruning"),
        "one value for each of the 1": lambda: safedl.repair(_Odd(), images, labels, "pruning", mean=[0.1, 0.2]),
    }
    for message, call in calls.items():
        with pytest.raises(UsageError, match=message):
            call()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"mean": np.array([0.5] * 3)}, "repair: mean and std need one value for each of the 1 channels; mean has 3"),
        ({"mean": []}, "mean has 0"),
        ({"mean": 0.5}, "repair: mean must be a list of numbers, one for each of the 1 channels, not float"),
        ({"mean": [float("nan")]}, "repair: mean has nan; it must be finite"),
        ({"std": [0.0]}, "repair: std has 0; it must be finite and above 0"),
        ({"std": [1e-60]}, "repair: std has 1e-60; it must be finite and above 0"),
        ({"mean": [1e60]}, r"repair: mean has 1e\+60; it must be finite"),
        ({"std": np.array([-1.0])}, "repair: std has -1; it must be finite and above 0"),
        ({"device": "gpu"}, "repair: device 'gpu' cannot be used here; give cpu, or cuda"),
        ({"device": None}, "repair: device 'None' cannot be used"),
        ({"device": "meta"}, "repair: device 'meta' cannot be used"),
        ({"seed": "a"}, "repair: seed is 'a'; give a whole number from 0 to 2147483647"),
        ({"seed": 2**70}, "repair: seed is 1180591620717411303424; give"),
        ({"seed": 1.0}, "repair: seed is 1.0; give"),
        ({"training": [1]}, r"repair: training is \[1\]; give a mapping"),
        ({"fresh": 3}, "repair: fresh must be a function"),
        ({"module": 3}, "repair: the model must be a torch.nn.Module, not int"),
    ],
)
def test_arguments_that_cannot_be_used_are_named(digits: Dataset, arguments: dict[str, Any], message: str) -> None:
    images, labels = digits.trusted.images, digits.trusted.labels
    given = {"module": _Odd(), "trusted_images": images, "trusted_labels": labels, "defense": "fine_pruning"}
    with pytest.raises(UsageError, match=message):
        safedl.repair(**given | arguments)
    if "seed" in arguments or "device" in arguments:
        with pytest.raises(UsageError, match=message.replace("repair", "poison", 1)):
            safedl.poison(images, labels, "static_patch", **arguments)


def test_a_module_that_fails_in_any_way_is_named(digits: Dataset) -> None:
    class Broken(_Odd):
        def forward(self, images: torch.Tensor) -> Any:
            return {}["logits"]

    with pytest.raises(UsageError, match=r"repair: the module fails on images \[1, 8, 8\]: KeyError: 'logits'"):
        safedl.repair(Broken(), digits.trusted.images, digits.trusted.labels, "fine_pruning")


def test_a_module_that_cannot_learn_is_named_and_a_compiled_one_is_opened(digits: Dataset) -> None:
    class Detached(nn.Sequential):
        def forward(self, images: Tensor) -> Tensor:
            logits: Tensor = super().forward(images)
            return logits.detach()

    images, labels = digits.trusted.images, digits.trusted.labels
    layers = [nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 10)]
    with pytest.raises(UsageError, match=r"^repair: the module cannot be trained: its forward cuts the gradient"):
        safedl.repair(Detached(*layers), images, labels, "fine_pruning")
    compiled = cast(nn.Module, torch.compile(nn.Sequential(*layers)))
    mended = safedl.repair(compiled, images, labels, "fine_pruning", epochs=1).model.net
    assert type(mended) is nn.Sequential and all(p.requires_grad for p in mended.parameters())


def test_a_module_may_keep_what_it_computed(digits: Dataset) -> None:
    class Keeps(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.hidden, self.last = nn.Linear(64, 16), nn.Linear(16, 10)

        def forward(self, images: Tensor) -> Tensor:
            self.seen = self.hidden(images.flatten(1)).relu()
            logits: Tensor = self.last(self.seen)
            return logits

    images, labels = digits.trusted.images, digits.trusted.labels
    assert safedl.poison(images, labels, "clean_label", model=Keeps(), fraction_poison=0.2).mask.any()


def test_mean_and_std_may_be_arrays(digits: Dataset) -> None:
    images, labels = digits.trusted.images, digits.trusted.labels
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 10))
    mended = safedl.repair(
        net, images, labels, "fine_pruning", mean=np.array([0.5]), std=torch.tensor([0.25]), training={"epochs": 1}
    )
    assert mended.model.mean.flatten().tolist() == [0.5] and mended.model.std.flatten().tolist() == [0.25]


@pytest.mark.parametrize("name", [None, 7, ["static_patch"]])
def test_what_is_no_name_gets_one_sentence(name: Any) -> None:
    images, labels = torch.rand(20, 1, 8, 8), torch.arange(20) % 2
    with pytest.raises(UsageError, match=r"poison: .* names no method"):
        safedl.poison(images, labels, name)
    with pytest.raises(UsageError, match=r"detect: .* names no method"):
        safedl.detect(images.flatten(1), labels, name)
    with pytest.raises(UsageError, match=r"repair: .* names no method"):
        safedl.repair(nn.Linear(64, 2), images, labels, name)


def test_places_may_be_texts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SAFEDL_DB", raising=False)
    workspace = safedl.Workspace.open(str(tmp_path), db=str(tmp_path / "runs.db"))
    assert (workspace.root, workspace.db) == (tmp_path, tmp_path / "runs.db")
    ensure(workspace.db)
    assert safedl.runs(str(workspace.db)) == []
    assert safedl.query(str(workspace.db), "select count(*) from run").rows == [(0,)]
