"""A profile that ran: a store and files made by hand, without training anything."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from safedl.conclusions.gather import Conclusions, conclude
from safedl.plan import Stage, expand
from safedl.profile.load import parse
from safedl.profile.schema import Profile
from safedl.store import scoring
from safedl.store.records import ExperimentRecord, RunRecord
from tests.store import samples
from tests.store.samples import Workplace

PROFILE = """\
# who reads this?
name: small
dataset: {name: digits}
model: {name: cnn}
threat_model:
  model_access: white-box   # they have it all
  training_data_source: mixed
  threat_categories: [backdoor_attacks, data_poisoning, model_stealing]
attack_overrides:
  backdoor:
    static_patch: {target_class: 2}
  data_poisoning:
    label_flipping: {flip_rate: 0.01, target_class: 1}
defense_config:
  backdoor:
    static_patch: {defenses: [activation_clustering, spectral_signatures, anomaly_detection]}
  data_poisoning:
    label_flipping: {defenses: [robust_loss]}
"""

METRICS: dict[str, dict[str, float]] = {
    "baseline": {"clean_accuracy": 0.98, "seconds": 30.0, "test_images": 1000.0},
    "static_patch": {
        "clean_accuracy": 0.97, "asr": 0.96, "robust_accuracy": 0.03, "poison_rate": 0.05, "seconds": 30.0,
    },
    "activation_clustering": {"clean_accuracy": 0.97, "asr": 0.96, "robust_accuracy": 0.03, "seconds": 30.0},
    "spectral_signatures": {"clean_accuracy": 0.97, "asr": 0.02, "robust_accuracy": 0.95, "seconds": 10.0},
    "anomaly_detection": {"clean_accuracy": 0.10, "asr": 0.00, "robust_accuracy": 0.10, "seconds": 1.0},
    "perfect_removal": {"clean_accuracy": 0.98, "asr": 0.01, "robust_accuracy": 0.95, "seconds": 30.0},
    "random_removal": {"clean_accuracy": 0.97, "asr": 0.95, "robust_accuracy": 0.03, "seconds": 30.0},
    "label_flipping": {"clean_accuracy": 0.978, "poison_rate": 0.009, "seconds": 30.0},
    "robust_loss": {"clean_accuracy": 0.975, "seconds": 30.0},
}  # fmt: skip
"""By defense, attack or `baseline`: spectral signatures mend the model, activation clustering finds nothing, anomaly
detection throws nearly everything away."""

CLASSES = ("0", "1")

Measure = Callable[[Stage], Mapping[str, float]]


def measure(stage: Stage) -> dict[str, float]:
    """Return a stage's metrics; seeds differ in the third decimal."""
    found = dict(METRICS[stage.defense or stage.attack or "baseline"])
    found["clean_accuracy"] -= 0.001 * stage.seed
    return {**found, **{f"clean_accuracy.{name}": found["clean_accuracy"] for name in CLASSES}}


def ran(
    work: Workplace,
    text: str = PROFILE,
    uid: str = "e1",
    seeds: Iterable[int] = (0, 1),
    measure: Measure = measure,
    classes: tuple[str, ...] = CLASSES,
    statuses: Mapping[str, str] | None = None,
) -> Profile:
    """Write down an experiment of a profile, every stage completed unless `statuses` (by stage id) says otherwise."""
    profile = parse(text)
    stages = expand(profile, list(seeds)).stages
    records = _records(uid, stages)
    experiment: ExperimentRecord = samples.experiment(uid, name=profile.name, config={"profile": profile.document})
    work.begin(experiment, list(records.values()))
    for stage in stages:
        status, run = (statuses or {}).get(stage.id, "completed"), records[stage.id].uid
        events = samples.finished(run, measure(stage), status)
        work.apply(events if status == "completed" else [e for e in events if e["event"] == "run"])
        if stage.kind == "baseline" and status == "completed":
            path = work.results / "runs" / run / "result.json"
            document = json.loads(path.read_text())
            path.write_text(json.dumps({**document, "fingerprint": "f" * 64, "class_names": classes}))
    scoring.rescore(work.db)
    return profile


def said(work: Workplace, text: str = PROFILE) -> Conclusions:
    """Return what is concluded about the profile."""
    return conclude(work.db, work.results, parse(text))


def check(found: Conclusions, id: str) -> tuple[str, str]:
    """Return status and finding of an item of the checklist."""
    item = next(i for i in found.decision.checklist if i.id == id)
    return item.status, item.detail


def save(root: Path, text: str = PROFILE) -> Path:
    """Write the profile into a workspace."""
    path = root / "profiles" / "small.yaml"
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    return path


def _records(uid: str, stages: Iterable[Stage]) -> dict[str, RunRecord]:
    found: dict[str, RunRecord] = {}
    for number, stage in enumerate(stages):
        name: dict[str, Any] = {"attack": stage.attack, "defense": stage.defense, "category": stage.category}
        found[stage.id] = samples.run(
            f"{uid}-{number:02d}", stage.kind, seed=stage.seed, recipe=stage.recipe, params=dict(stage.chain),
            dataset=stage.chain["dataset.name"], model=stage.chain["model.name"],
            stage_key=f"{uid}-{stage.id}", stage=stage.id, experiment=uid,
            parent=found[stage.parent].uid if stage.parent else None, detector=stage.params.get("detector"), **name,
        )  # fmt: skip
    return found
