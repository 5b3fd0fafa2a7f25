from __future__ import annotations

import pytest
import torch

from safedl.catalog.defenses.backdoor import ModelInspectionParams
from safedl.defenses.contract import Scenario
from safedl.defenses.model_inspection import diagnose
from safedl.defenses.reversed_trigger import anomaly
from safedl.errors import UsageError
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


@pytest.mark.parametrize(("layer", "match"), [("fc.9", "no layer"), ("conv.5", "no weights")])
def test_layers_that_cannot_be_inspected_are_refused(clean_scenario: Scenario, layer: str, match: str) -> None:
    with pytest.raises(UsageError, match=match):
        diagnose(clean_scenario, ModelInspectionParams(variant="literal", layers=(layer,)))
