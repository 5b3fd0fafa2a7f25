"""What withstands several attacks at test time together, image by image."""

from __future__ import annotations

import json

from safedl.plan import Stage
from safedl.store import queries
from tests.conclusions.measured import check, ran, said
from tests.store.samples import Workplace

EVASION = """\
name: small
dataset: {name: digits}
model: {name: cnn}
attack_overrides: {evasion: {fgsm: {}, pgd: {}, nes: {}}}
defense_config:
  evasion:
    fgsm: {defenses: [adversarial_training]}
    pgd: {defenses: [adversarial_training]}
    nes: {defenses: [adversarial_training, jpeg_preprocessing]}
"""


def test_a_model_is_judged_under_all_attacks_that_it_would_ship_against(work: Workplace) -> None:
    """Ten images: each attack alone fools the trained model on four of them, fgsm and pgd together on eight."""
    withstood = {"fgsm": range(6), "pgd": range(4, 10), "nes": range(6)}

    def of(stage: Stage) -> dict[str, float]:
        found = {"clean_accuracy": 1.0, "seconds": 1.0, "test_images": 10.0}
        if stage.attack:
            found |= {"sampled_accuracy": 1.0, "adversarial_accuracy": 0.6 if stage.defense else 0.0}
        return found | ({"adversarial_accuracy": 0.9} if stage.defense == "jpeg_preprocessing" else {})

    ran(work, EVASION, seeds=(0,), measure=of)
    for row in queries.runs(work.db, kind="defense"):
        record = row.record
        robust = range(9) if record.defense == "jpeg_preprocessing" else withstood[record.attack or ""]
        facts = {
            "uid": record.uid, "category": "evasion", "attack": record.attack, "defense": record.defense, "seed": 0,
            "params": {}, "attacked_indices": list(range(10)), "attacked_labels": [0] * 10, "class_names": ["0"],
            "robust_indices": list(robust),
        }  # fmt: skip
        (work.results / "runs" / record.uid / "result.json").write_text(json.dumps(facts))
    found = said(work, EVASION + "acceptance: {min_robust_accuracy: 0.3}\n")
    assert {o.risk.attack: o.best.defense for o in found.facts.outcomes if o.best} == {
        "fgsm": "adversarial_training", "pgd": "adversarial_training", "nes": "jpeg_preprocessing",
    }  # fmt: skip
    status, detail = check(found, "robust_accuracy")
    assert (status, detail[:45]) == ("fail", "smallest accuracy on attacked images 0.200 (t"), detail
    assert "the worst of fgsm, pgd, after adversarial_training" in detail


def test_a_result_that_cannot_be_read_hides_no_joint_attack(work: Workplace) -> None:
    """Which images withstand all attacks together stands in the files alone."""

    def of(stage: Stage) -> dict[str, float]:
        found = {"clean_accuracy": 1.0, "seconds": 1.0, "test_images": 10.0}
        if stage.attack:
            found |= {"sampled_accuracy": 1.0, "adversarial_accuracy": 0.9 if stage.defense else 0.0}
        return found

    ran(work, EVASION, seeds=(0,), measure=of)
    assert check(said(work, EVASION), "robust_accuracy")[0] == "pass"
    lost = queries.runs(work.db, kind="defense", attack="fgsm")[0].record.uid
    (work.results / "runs" / lost / "result.json").unlink()
    status, detail = check(said(work, EVASION), "robust_accuracy")
    assert (status, detail.split(";")[0]) == ("fail", f"the result.json of these runs cannot be read: {lost}")
