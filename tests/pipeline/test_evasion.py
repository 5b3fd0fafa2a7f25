"""Attacks at test time, end to end: what a run leaves behind, and what a guard's numbers say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from safedl.attacks.contract import EvasionContext, Perturbation
from safedl.attacks.evasion.batches import perturb_all
from safedl.catalog import ATTACKS
from safedl.data.imageset import Dataset
from safedl.data.load import load
from safedl.defenses.guard import Guard
from safedl.models.build import build
from safedl.models.classifier import Classifier
from safedl.pipeline import evasion, lab
from safedl.pipeline.driver import Request, drive, prepare
from safedl.profile.load import parse
from safedl.training.workbench import Workbench
from safedl.workspace import Workspace

PROFILE = """
name: evasion
dataset: {name: digits, subset: 60}
model: {name: cnn, params: {conv_filters: 8, hidden_size: 32}}
training: {epochs: 4, batch_size: 32, learning_rate: 0.003, precision: float32}
attack_overrides:
  evasion:
    fgsm: {epsilon: 0.2, max_samples: 60}
    pgd: {epsilon: 0.2, alpha: 0.05, num_iter: 10, max_samples: 40}
defense_config:
  adversarial_examples:
    pgd:
      defenses: [adversarial_training, gradient_masking]
      adversarial_training: {epsilon: 0.2, num_steps: 2}
"""


def no_substitute(name: str, params: Any) -> Classifier:
    raise AssertionError("only transfer attacks ask for a substitute")


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    workspace = Workspace.open(tmp_path_factory.mktemp("evasion"))
    code, _ = drive(
        workspace, prepare(workspace, Request(profile=parse(PROFILE), device="cpu", workers=1)), lambda _: None
    )
    assert code == 0
    return workspace


def result(workspace: Workspace, name: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((workspace.results / "evasion" / name).read_text())
    return document


def test_an_attack_leaves_the_model_and_changes_the_images(ran: Workspace) -> None:
    document = result(ran, "pgd/pgd_metrics.json")
    assert document["accuracy_clean_testset"] == document["baseline"]["clean_accuracy"]
    assert document["accuracy_adversarial_testset"] < document["sampled_accuracy"]
    assert document["per_class_adversarial"].keys() <= set(document["class_names"])
    assert document["perturbation_linf"] <= 0.2 + 1e-4
    assert 0 < document["queries_mean"] <= 10
    assert document["test_images"] == 40 == len(document["attacked_indices"])
    robust = len(document["robust_indices"])
    assert document["accuracy_adversarial_testset"] == robust / 40
    assert document["adversarial_low"] <= robust / 40 < document["adversarial_high"]
    for entry in document["example_adversarial_samples"]:
        assert (ran.results / "evasion" / "pgd" / entry["path"]).is_file()
        assert entry["predicted_label"] != entry["true_label"]


def test_smaller_samples_are_part_of_larger_ones(ran: Workspace) -> None:
    small = result(ran, "pgd/pgd_metrics.json")["attacked_indices"]
    large = result(ran, "fgsm/fgsm_metrics.json")["attacked_indices"]
    assert set(small) < set(large)
    assert evasion.sample(10, None, 3).tolist() == list(range(10))
    assert evasion.sample(100, 10, 0).tolist() != evasion.sample(100, 10, 1).tolist()


def test_a_defense_is_attacked_anew_and_masking_is_seen_through(ran: Workspace) -> None:
    trained = result(ran, "pgd/adversarial_training_results.json")
    assert trained["accuracy_adversarial"] == trained["metrics"]["adversarial_accuracy"]
    assert "static_adversarial_accuracy" in trained["metrics"]
    masked = result(ran, "pgd/gradient_masking_results.json")
    naive, adaptive = masked["metrics"]["naive_adversarial_accuracy"], masked["metrics"]["adversarial_accuracy"]
    assert naive > adaptive
    assert any("who does not know of the defense" in note for note in masked["notes"])


def test_the_worst_case_is_at_most_the_worst_attack(ran: Workspace) -> None:
    (case,) = json.loads((ran.results / "evasion" / "worst_case.json").read_text())
    assert case["attacks"] == ["fgsm", "pgd"]
    assert case["images"] == 40
    assert case["accuracy"] <= min(case["single"].values())
    assert "Worst case over attacks" in (ran.results / "final_report.md").read_text()


def assault(right: Tensor, predicted: Tensor, images: Tensor, originals: Tensor, labels: Tensor) -> evasion.Assault:
    index = torch.arange(len(right))
    return evasion.Assault(index, labels, originals, images, torch.ones_like(index), right, predicted)


def test_robust_is_what_was_right_before_and_after() -> None:
    nothing, labels = torch.zeros(4, 1, 8, 8), torch.zeros(4, dtype=torch.int64)
    right, predicted = torch.tensor([True, True, False, False]), torch.tensor([0, 1, 0, 1])
    made = assault(right, predicted, nothing, nothing.to(torch.uint8), labels)
    assert made.robust.tolist() == [True, False, False, False]


def test_an_attack_that_loses_its_way_in_a_guard_does_not_flatter_it() -> None:
    images, labels = torch.zeros(4, 1, 8, 8), torch.zeros(4, dtype=torch.int64)
    originals, right = images.to(torch.uint8), torch.tensor([True, True, True, False])
    adaptive = assault(right, torch.tensor([0, 0, 1, 1]), images, originals, labels)
    static = assault(right, torch.tensor([0, 2, 0, 1]), images + 0.5, originals, labels)
    found = evasion.strongest(adaptive, static)
    assert found.predicted.tolist() == [0, 2, 1, 1]
    assert found.robust.tolist() == [True, False, False, False]
    assert found.images.amax((1, 2, 3)).tolist() == [0, 0.5, 0, 0]
    assert found.details["num_static"] == 1


def test_no_weaker_attacker_beats_the_one_who_knows(tmp_path: Path) -> None:
    """A guard whose scores say nothing stops an attack by scores; what was made without it gets through."""
    text = (
        PROFILE[: PROFILE.index("attack_overrides")]
        + """
attack_overrides: {evasion: {nes: {epsilon: 0.3, num_queries: 300, max_samples: 40}}}
defense_config: {evasion: {nes: {defenses: [gradient_masking]}}}
"""
    )
    workspace = Workspace.open(tmp_path)
    request = Request(profile=parse(text), device="cpu", workers=1)
    assert drive(workspace, prepare(workspace, request), lambda _: None)[0] == 0
    found = result(workspace, "nes/gradient_masking_results.json")
    assert found["metrics"]["adversarial_accuracy"] <= found["metrics"]["static_adversarial_accuracy"]
    assert found["num_static"] > 0


def test_a_static_attacker_shows_the_altered_images(digits: Dataset, bench: Workbench, clean_model: Classifier) -> None:
    images, labels = digits.test.images[:60], digits.test.labels[:60]
    black = torch.zeros(60, 1, 8, 8)
    right = bench.predict(clean_model, images).argmax(1) == labels
    made = assault(right, bench.predict(clean_model, black).argmax(1), black, images, labels)
    trial = evasion.Trial("fgsm", {}, digits, bench, no_substitute)
    static = evasion.shown(bench, clean_model, made)
    found, _ = evasion.weaker_attackers(trial, clean_model, made, static, made)
    assert found["static_adversarial_accuracy"] == pytest.approx(float(made.robust.float().mean()))
    assert found["static_adversarial_accuracy"] < 0.5


class Steps(Guard):
    """Rounds pixels to black and white."""

    hides_gradient = True

    def forward(self, images: Tensor) -> Tensor:
        return self.classify((images > 0.5).float())

    def surrogate(self, images: Tensor) -> Tensor:
        return self.classify(images + ((images > 0.5).float() - images).detach())


def test_what_an_unaware_attacker_sees_is_told_apart(
    digits: Dataset, bench: Workbench, clean_model: Classifier
) -> None:
    params = {"epsilon": 0.3, "alpha": 0.05, "num_iter": 20, "max_samples": 60}
    guard = Steps(clean_model)
    trial = evasion.Trial("pgd", params, digits, bench, no_substitute)
    undefended, adaptive = evasion.assault(trial, clean_model), evasion.assault(trial, guard)
    static = evasion.shown(bench, guard, undefended)
    weaker, notes = evasion.weaker_attackers(trial, guard, undefended, static, adaptive)
    assert weaker["naive_adversarial_accuracy"] > float(adaptive.robust.float().mean()) + 0.2
    assert len(notes) == 1


@pytest.mark.parametrize(
    ("adaptive", "left"),
    [
        (0.2, "nothing is left of the gain over the undefended model's 0.300"),
        (0.38, "what is left of the gain is 0.080, within noise (±0.131), over the undefended model's 0.300"),
        (0.5, "what is left of the gain is 0.200 over the undefended model's 0.300"),
    ],
)
def test_a_gain_within_noise_is_told_as_what_it_is(adaptive: float, left: str) -> None:
    """It is scored, so the ranking may call its defense the best: the note said that nothing of it was left."""
    (told,) = evasion._verdict({"static_adversarial_accuracy": 0.8}, 0.3, adaptive, 100)
    assert told.endswith(f"one who does {adaptive:.3f}: {left}.")


def test_what_breaks_the_rules_counts_as_failed(digits: Dataset, clean_model: Classifier) -> None:
    images, labels = digits.test.images[:12], digits.test.labels[:12]

    def cheat(model: Classifier, images: Tensor, labels: Tensor, params: Any, context: EvasionContext) -> Perturbation:
        made = images.clone()
        made[0], made[1, 0, 0, 0], made[2] = 2.0, float("nan"), images[2] + 0.05
        made[3] = (images[3] + 0.01).clamp(0, 1)
        return Perturbation(made, torch.ones(len(images), dtype=torch.int64))

    spec = ATTACKS["fgsm"]
    context = EvasionContext(torch.Generator().manual_seed(0), 10)
    params = spec.params.model_validate({"epsilon": 0.02})
    found = perturb_all(spec, cheat, clean_model, images, labels, params, context, torch.device("cpu"))
    right = (clean_model(images.float() / 255).argmax(1) == labels).nonzero().flatten().tolist()
    changed = (found.images != images.float() / 255).flatten(1).any(1).nonzero().flatten().tolist()
    assert changed == [right[3]]
    assert found.details["num_rejected"] == 3
    assert found.queries.tolist() == [int(i in right) for i in range(12)]


def test_pictures_show_original_perturbation_and_result(ran: Workspace) -> None:
    from PIL import Image

    from safedl.reports.images import GAP, SIDE

    path = next((ran.results / "evasion" / "fgsm" / "examples").glob("*.png"))
    assert Image.open(Path(path)).size == (3 * SIDE + 2 * GAP, SIDE)


def test_a_substitute_is_of_another_seed_and_learns_from_the_data_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the same seed it would be the model itself; another seed's split would hold test images of this one."""
    seeds, built = [], set()

    def recorded(settings: Any, seed: int, *rest: Any, **more: Any) -> Dataset:
        seeds.append(seed)
        return load(settings, seed, *rest, **more)

    def noted(settings: Any, dataset: Dataset, seed: int, *rest: Any) -> Classifier:
        built.add(seed)
        return build(settings, dataset, seed, *rest)

    monkeypatch.setattr(lab, "load", recorded)
    monkeypatch.setattr(lab, "build", noted)
    text = PROFILE[: PROFILE.index("attack_overrides")] + "attack_overrides: {evasion: {transfer: {max_samples: 5}}}\n"
    workspace = Workspace.open(tmp_path)
    request = Request(profile=parse(text), device="cpu", workers=1)
    code, _ = drive(workspace, prepare(workspace, request), lambda _: None)
    assert (code, seeds, built) == (0, [0], {0, 1})
