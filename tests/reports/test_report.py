"""Reports of hand-made outcomes, against texts that were read and found right.

After a wanted change, write them again: `python -m tests.reports.test_report`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from safedl import catalog
from safedl.catalog import AttackSpec, DefenseSpec, Params
from safedl.reports.outcome import Outcome, Pictures
from safedl.reports.report import render
from safedl.reports.result import build
from tests.reports import samples

GOLDEN = Path(__file__).parent / "golden"

ATTACK = AttackSpec(
    "static_patch", "backdoor", "Static patch backdoor", "A patch calls the target class.", "Gu et al.: BadNets, 2017",
    Params, "asr",
)  # fmt: skip
DETECTOR = DefenseSpec(
    "spectral_signatures", "detect", "Spectral signatures", "Removes what lies far along one direction.",
    "Tran, Li, Madry, NeurIPS 2018", Params, ("static_patch",), trusted="", histograms="spectral_histograms",
)  # fmt: skip
INSPECTION = DefenseSpec(
    "model_inspection", "diagnose", "Model inspection", "Looks for odd weights.", "Wang et al., 2019", Params,
    ("static_patch",), trusted="Thresholds.", clean_model="Its weights, for comparison.", recipe="SGD.",
)  # fmt: skip

_PICTURES = Pictures(("examples/01_sample_1.png", "examples/02_sample_3.png"))
_HISTOGRAMS = (("cat", "histograms/00_cat.png"), ("dog", "histograms/01_dog.png"))
_TRIGGER = {"trigger": "trigger.png", "mask": "mask.png", "overlay": "overlay.png"}

BOUNDS = {
    "random_removal": {"clean_accuracy": 0.974, "asr": 0.985, "removed": 2.0, "tpr": 0.25},
    "perfect_removal": {"clean_accuracy": 0.979, "asr": 0.01, "removed": 3.0, "tpr": 1.0},
}
CASES: dict[str, tuple[Outcome, Pictures]] = {
    "baseline": (samples.baseline(), Pictures()),
    "attack": (
        samples.attack(notes=("attack worked: ASR 0.990",)),
        Pictures(_PICTURES.examples, trigger=_TRIGGER),
    ),
    "detector": (
        samples.detector(),
        Pictures(_PICTURES.examples, _HISTOGRAMS),
    ),
    "diagnosis": (
        samples.defense(
            "model_inspection",
            metrics=samples.ATTACKED,
            details={
                "suspicious": True,
                "suspicious_layers": ["conv.0"],
                "layer_stats": {"conv.0": {"mean": 0.01, "std": 1.5}, "fc.1": {"mean": 0.0, "std": 0.2}},
            },
        ),
        Pictures((), (("conv.0", "histograms/00_conv.0.png"),)),
    ),
    "bound": (
        samples.detector(
            "perfect_removal", kind="bound", examples=(), scores=None, metrics=samples.DEFENDED, details={}
        ),
        Pictures(),
    ),
}


@pytest.fixture(autouse=True)
def _texts(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setitem(catalog.ATTACKS, ATTACK.name, ATTACK)
    for spec in (DETECTOR, INSPECTION):
        monkeypatch.setitem(catalog.DEFENSES, spec.name, spec)
    yield


def _golden(name: str) -> str:
    document = build(*CASES[name])
    return render({**document, "bounds": BOUNDS} if name == "detector" else document)


@pytest.mark.parametrize("name", CASES)
def test_golden(name: str) -> None:
    assert _golden(name) == (GOLDEN / f"{name}.md").read_text()


def _report(**changes: Any) -> str:
    return render(build(samples.detector(**changes), _PICTURES if "examples" not in changes else Pictures()))


def test_reports_hold_nothing_of_clock_or_run() -> None:
    assert _report(uid="other", timing={"seconds": 99.0}) == _report()


def test_nothing_removed() -> None:
    text = _report(flagged=samples.FLAGGED & False, examples=())
    assert "Nothing was removed." in text
    assert "0 of 3 poisoned samples were caught; 3 stayed in." in text
    assert "## Removed samples" not in text


def test_no_poison() -> None:
    text = _report(poisoned=samples.POISONED & False, metrics={"clean_accuracy": 0.97, "fpr": 0.2})
    assert "0 of 0 poisoned samples" in text
    assert "| False positive rate | 0.200 |" in text
    assert "True positive rate" not in text


def test_unmeasured_values_are_dashes() -> None:
    assert "| Clean accuracy | - | - | 0.970 | - |" in _report(before={}, baseline={}, metrics={"clean_accuracy": 0.97})


def test_details_that_repeat_a_parameter_are_left_out() -> None:
    text = _report()
    assert "| threshold |" not in text
    assert "| defense.threshold | 0.9 |" in text
    assert "| threshold | 0.500 |" in _report(details={"threshold": 0.5})


def test_long_nested_details_are_cut() -> None:
    text = _report(details={"spread": {f"class {i}": i for i in range(80)}})
    assert "| class 49 | 49 |" in text
    assert "class 50" not in text
    assert "The first 50 of 80." in text


def test_unknown_methods_have_a_report_too() -> None:
    assert _report(defense="home_made", attack="own|attack").startswith("# home_made against own&#124;attack\n")


def test_hostile_names_everywhere() -> None:
    evil = "<img src=x onerror=alert(1)>|`\x1b[2J\n# x"
    metrics = {"clean_accuracy": 0.5, f"clean_accuracy.{evil}": 0.5}
    outcome = samples.detector(
        classes=(evil, "dog", "eel"), dataset=evil, model=evil, layer=evil, metrics=metrics, notes=(evil,),
        details={evil: evil, "nested": {evil: {evil: [evil]}}}, params={f"defense.{evil}": evil},
    )  # fmt: skip
    text = render(build(outcome, Pictures(_PICTURES.examples, ((evil, "histograms/00_x.png"),))))
    assert "<" not in text
    assert "\x1b" not in text
    assert "\n# x" not in text
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert all(line.endswith("|") for line in rows)


if __name__ == "__main__":
    catalog.ATTACKS[ATTACK.name] = ATTACK
    catalog.DEFENSES |= {spec.name: spec for spec in (DETECTOR, INSPECTION)}
    GOLDEN.mkdir(exist_ok=True)
    for case in CASES:
        (GOLDEN / f"{case}.md").write_text(_golden(case))


def test_trusted_data_that_was_not_used_is_no_witness() -> None:
    outcome = samples.defense("model_inspection", details={"suspicious": False, "trusted_used": 0})
    assert "Trusted data: not used here" in render(build(outcome, Pictures()))
    outcome = samples.defense("model_inspection", details={"suspicious": False, "trusted_used": 90})
    assert "Trusted data: Thresholds." in render(build(outcome, Pictures()))
