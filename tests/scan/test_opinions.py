"""One scale for all detectors."""

from __future__ import annotations

import pytest
import torch

from safedl.defenses.contract import Detection, Scenario
from safedl.scan import opinions
from safedl.scan.opinions import ask, calibrate
from tests.defenses.conftest import Backdoored


def test_a_score_is_one_minus_the_share_of_clean_images_that_score_as_high() -> None:
    reference = torch.tensor([0.0, 1.0, 2.0, 3.0])
    assert calibrate(torch.tensor([-1.0, 0.5, 1.0, 3.0, 4.0]), reference).tolist() == [0.0, 0.25, 0.25, 0.75, 1.0]
    assert calibrate(torch.tensor([1.0, 2.0]), torch.zeros(0)).tolist() == [0.0, 0.0]


def test_what_is_flagged_lies_above_the_false_alarm_rate(backdoored: Backdoored) -> None:
    opinion = ask(backdoored.scenario, "spectral_signatures", 0.02, trusted=True)
    assert opinion.classes == (backdoored.target,)
    assert opinion.flagged[backdoored.mask].float().mean() >= 0.95
    assert (opinion.scores[opinion.flagged] >= 0.98).all()


@pytest.mark.parametrize(("rate", "flagged"), [(0.0, []), (0.1, [3]), (0.5, [1, 3])])
def test_of_what_a_detector_flags_stays_what_few_clean_images_reach(
    clean_scenario: Scenario, monkeypatch: pytest.MonkeyPatch, rate: float, flagged: list[int]
) -> None:
    scores, chosen = torch.tensor([9.0, 5.0, 2.0, 9.0]), torch.tensor([False, True, True, True])
    found = Detection(scores, chosen, {}, torch.arange(10.0))
    monkeypatch.setattr(opinions, "load", lambda _spec: lambda *_: found)
    opinion = ask(clean_scenario, "spectral_signatures", rate)
    assert opinion.scores.tolist() == pytest.approx([0.9, 0.5, 0.2, 0.9])
    assert opinion.flagged.nonzero().flatten().tolist() == flagged


def test_without_a_reference_clean_images_are_those_that_are_left_alone(
    clean_scenario: Scenario, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = Detection(torch.tensor([0.0, 4.0, 1.0, 2.0]), torch.tensor([False, True, False, False]))
    monkeypatch.setattr(opinions, "load", lambda _spec: lambda *_: found)
    opinion = ask(clean_scenario, "spectral_signatures", 0.01)
    assert opinion.scores.tolist() == pytest.approx([0, 1, 1 / 3, 2 / 3])
    assert opinion.flagged.tolist() == [False, True, False, False]


def test_nothing_is_flagged_in_clean_data(clean_scenario: Scenario) -> None:
    opinion = ask(clean_scenario, "activation_clustering", 0.01, trusted=True)
    assert not opinion.flagged.any() and not opinion.classes
