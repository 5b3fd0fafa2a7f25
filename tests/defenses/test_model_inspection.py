from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from safedl.cache import ArtifactCache
from safedl.catalog.defenses.backdoor import ModelInspectionParams
from safedl.data.imageset import ImageSet
from safedl.defenses import reversed_trigger
from safedl.defenses.contract import Scenario
from safedl.defenses.model_inspection import diagnose
from safedl.defenses.reversed_trigger import ReversedTriggers, anomaly, find_small_triggers, judge_sizes
from safedl.errors import UsageError
from safedl.models.classifier import Classifier
from tests.defenses.conftest import Backdoored

LITERAL = ModelInspectionParams(variant="literal")


def test_it_names_the_target_class(backdoored: Backdoored) -> None:
    findings = diagnose(backdoored.scenario, ModelInspectionParams())
    assert findings.suspicious
    assert findings.details["target_class"] == backdoored.target
    assert findings.details["suspicious_classes"] == ["7"]
    assert findings.details["trusted_used"] == len(backdoored.dataset.trusted)


def test_it_stays_quiet_on_a_clean_model(clean_scenario: Scenario) -> None:
    findings = diagnose(clean_scenario, ModelInspectionParams())
    assert not findings.suspicious
    assert findings.details["target_class"] is None


def test_one_small_size_stands_out_and_a_large_one_does_not() -> None:
    sizes = torch.tensor([10.0, 11, 9, 10.5, 9.5, 10, 2, 60])
    ratios, index = anomaly(sizes)
    assert (index > 2).nonzero().flatten().tolist() == [6]
    assert ratios[6] == pytest.approx(0.2, rel=0.1)
    assert anomaly(torch.ones(10))[1].abs().max() == 0


@pytest.mark.parametrize("classes", [3, 4, 10, 43])
def test_anomaly_index_is_neural_cleanses(classes: int) -> None:
    sizes = torch.rand(classes, generator=torch.Generator().manual_seed(0)) + 0.01
    logs = np.log(sizes.numpy())
    below = np.median(logs) - logs
    ratios, index = anomaly(sizes)
    assert index.numpy() == pytest.approx(below / (1.4826 * np.median(np.abs(below))), rel=1e-4)
    assert ratios.numpy() == pytest.approx(np.exp(-below), rel=1e-4)


def test_a_class_is_suspicious_only_if_small_beside_the_reference_and_beside_the_other_classes() -> None:
    usual = torch.tensor([0.05, 0.06, 0.04, 0.055, 0.045, 0.05, 0.052, 0.048])
    small, hard, large = usual.clone(), usual.clone(), usual.clone()
    small[3], hard[3], large[3] = 0.01, 0.2, 0.5
    assert judge_sizes(small, usual)[0] == [3]
    assert judge_sizes(usual, usual)[0] == []
    assert judge_sizes(small, small)[0] == []  # easy to reach in any model
    assert judge_sizes(usual, hard)[0] == []  # hard to reach for the reference alone
    assert judge_sizes(large, usual)[0] == []


def test_triggers_are_searched_once_for_all_that_ask(
    backdoored: Backdoored, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = find_small_triggers(backdoored.scenario)
    bench = replace(backdoored.scenario.bench, cache=ArtifactCache(tmp_path))
    first = find_small_triggers(replace(backdoored.scenario, bench=bench))
    monkeypatch.setattr(reversed_trigger, "reverse_triggers", None)
    again = find_small_triggers(replace(backdoored.scenario, bench=bench))
    for found in (first, again):
        assert found.suspicious == alone.suspicious
        assert torch.equal(found.triggers.patterns, alone.triggers.patterns)
        assert torch.equal(found.reference_sizes, alone.reference_sizes)


def test_triggers_found_on_other_trusted_images_are_not_taken(
    clean_scenario: Scenario, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    def reverse(scenario: Scenario, phase: str) -> ReversedTriggers:
        asked.append(len(scenario.trusted))
        return ReversedTriggers(torch.zeros(10, 1, 8, 8), torch.zeros(10, 1, 8, 8), torch.linspace(0.1, 0.2, 10))

    monkeypatch.setattr(reversed_trigger, "reverse_triggers", reverse)
    scene = replace(clean_scenario, bench=replace(clean_scenario.bench, cache=ArtifactCache(tmp_path)))
    fewer = replace(scene, trusted=scene.trusted.select(torch.arange(50)))
    for each in (scene, scene, fewer, fewer):
        find_small_triggers(each)
    assert asked == [len(scene.trusted)] * 2 + [50] * 2  # for the model, and for the one it is compared with


def test_layer_statistics_are_those_of_the_weights(clean_scenario: Scenario) -> None:
    findings = diagnose(clean_scenario, LITERAL)
    assert findings.details["layers_inspected"] == ["conv.0", "conv.3", "fc.1", "fc.3"]
    weight = clean_scenario.model.layer("fc.1").weight
    assert isinstance(weight, torch.Tensor)
    stats = findings.details["layer_stats"]["fc.1"]
    assert stats["mean"] == pytest.approx(weight.mean().item(), abs=1e-6)
    assert stats["max_abs"] == pytest.approx(weight.abs().max().item())
    assert torch.equal(findings.histograms["fc.1"], weight.detach().flatten())


def test_literal_flags_layers_with_extreme_weights(clean_scenario: Scenario) -> None:
    assert not diagnose(clean_scenario, LITERAL).suspicious
    weight = clean_scenario.model.layer("fc.3").weight
    assert isinstance(weight, torch.Tensor)
    with torch.no_grad():
        weight[0, 0] = 2.5
    findings = diagnose(clean_scenario, ModelInspectionParams(variant="literal", layers=("fc.1", "fc.3")))
    assert findings.suspicious
    assert findings.details["suspicious_layers"] == ["fc.3"]
    assert list(findings.histograms) == ["fc.1", "fc.3"]


def test_a_parameter_stands_for_its_layer(clean_scenario: Scenario) -> None:
    names = ("conv.0.bias", "conv.0.weight", "fc.1.bias", "fc.1")
    findings = diagnose(clean_scenario, ModelInspectionParams(variant="literal", layers=names))
    assert findings.details["layers_inspected"] == ["conv.0", "fc.1"]
    found = ModelInspectionParams.model_validate({"layers": names}, context={"model": "cnn"})
    assert found.layers == ("conv.0", "fc.1")


@pytest.mark.parametrize(("layer", "match"), [("fc.9", "no layer"), ("conv.5", "no weights")])
def test_layers_that_cannot_be_inspected_are_refused(clean_scenario: Scenario, layer: str, match: str) -> None:
    with pytest.raises(UsageError, match=match):
        diagnose(clean_scenario, ModelInspectionParams(variant="literal", layers=(layer,)))


def test_a_layer_of_wide_spread_is_flagged_though_no_weight_is_large(clean_scenario: Scenario) -> None:
    weight = clean_scenario.model.layer("fc.3").weight
    assert isinstance(weight, torch.Tensor)
    with torch.no_grad():
        weight.copy_(1.5 * weight.sign())
    assert diagnose(clean_scenario, LITERAL).details["suspicious_layers"] == ["fc.3"]


class Brightness(nn.Module):
    """Answers 1 for images that are bright on average, whatever is put into a part of them."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(1, 2)
        self.head.weight.data, self.head.bias.data = torch.tensor([[-10.0], [10.0]]), torch.tensor([5.0, -5.0])

    def forward(self, images: Tensor) -> Tensor:
        mean = images.mean((1, 2, 3)).unsqueeze(1)
        logits: Tensor = self.head((mean > 0.5).float() + 0 * mean)
        return logits


def test_images_of_the_class_itself_are_no_success_of_its_trigger(clean_scenario: Scenario) -> None:
    labels = (torch.arange(320) % 32 != 0).long()
    images = torch.where(labels == 1, 230, 25).view(-1, 1, 1, 1).expand(-1, 1, 8, 8).to(torch.uint8)
    model = Classifier(Brightness(), [0.0], [1.0], (1, 8, 8)).eval().requires_grad_(False)
    scene = replace(clean_scenario, trusted=ImageSet(images, labels), classes=("0", "1"), model=model)
    assert reversed_trigger.reverse_triggers(scene, [1]).sizes.tolist() == [1.0]  # none was found


def test_the_smallest_trigger_that_worked_is_kept() -> None:
    kept = ReversedTriggers(torch.zeros(3, 1, 2, 2), torch.ones(3, 1, 2, 2), torch.ones(3))
    for size, works in ((0.5, [True, True, False]), (0.25, [True, False, False]), (0.75, [True, True, False])):
        masks = torch.full((3, 1, 2, 2), size)
        reversed_trigger._keep(kept, torch.tensor(works), masks.clone(), masks)
    assert kept.sizes.tolist() == [0.25, 0.5, 1.0]
    assert kept.masks[:, 0, 0, 0].tolist() == kept.sizes.tolist()
    assert kept.patterns[:, 0, 0, 0].tolist() == [0.25, 0.5, 0.0]
