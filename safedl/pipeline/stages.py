"""What each kind of stage does. A stage asks for what it builds on by content, so order does not matter to it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from safedl import catalog, reports
from safedl.attacks.contract import Poisoning
from safedl.catalog.settings import ModelSettings, ScanSettings
from safedl.data.imageset import Dataset, ImageSet
from safedl.defenses import load as load_defense
from safedl.defenses.contract import Detection, Findings, Repaired, Scenario, Trained
from safedl.defenses.guard import Guard
from safedl.errors import SafedlError
from safedl.evaluation import metrics
from safedl.loading import LOADING
from safedl.models.classifier import Classifier
from safedl.pipeline import evasion, picture
from safedl.pipeline.lab import Lab
from safedl.pipeline.poison import draw
from safedl.plan import PERFECT, Stage
from safedl.progress import Progress
from safedl.reports.outcome import Outcome
from safedl.risk.effect import effect
from safedl.training.ready import get_ready
from safedl.training.workbench import Workbench

Document = Mapping[str, Any]
"""A run's `result.json`."""


@dataclass(frozen=True)
class Job:
    """One stage to run: where it writes, and the results of the stages that it starts from."""

    stage: Stage
    uid: str
    folder: Path
    device: torch.device
    parent: Document | None = None
    baseline: Document | None = None
    after: Document | None = None


def execute(lab: Lab, job: Job, progress: Progress) -> Document:
    """Run a stage, write its folder and return its result document. Raises `Cancelled` or what went wrong."""
    torch.set_num_threads(lab.threads)
    get_ready(job.device)
    if job.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(job.device)
    return _Execution(lab, job, progress).run()


class _Execution:
    """One stage at work; holds what its steps share."""

    def __init__(self, lab: Lab, job: Job, progress: Progress) -> None:
        self.lab, self.job, self.stage, self.progress = lab, job, job.stage, progress
        self.dataset: Dataset = lab.dataset(job.stage.seed, progress)
        self.shared = lab.bench(job.stage.seed, job.device, progress, job.uid)
        self.own = lab.bench(job.stage.seed, job.device, progress, job.uid)

    def run(self) -> Document:
        kinds = {
            "baseline": self._baseline,
            "attack": self._attack,
            "defense": self._defense,
            "bound": self._bound,
            "scan": self._scan,
        }
        return reports.write(self.job.folder, kinds[self.stage.kind]())

    # --- the kinds of stage

    def _baseline(self) -> Outcome:
        start = time.perf_counter()
        model = self.own.fit(self.dataset.train)
        seconds = self._cost(start)
        values = metrics.evaluate(model, self.dataset.test, None, self.own, self.dataset.classes)
        self._keep_model(model)
        details = {
            "train_images": len(self.dataset.train),
            "trusted_images": len(self.dataset.trusted),
            "test_images": len(self.dataset.test),
            "fingerprint": self.dataset.fingerprint,
            **self._model_code(),
        }
        return self._outcome(model, values, seconds, details=details)

    def _attack(self) -> Outcome:
        if self.stage.category == "evasion":
            return self._evasion()
        clean = self._clean_model()
        start = time.perf_counter()
        poisoning = self._poisoning(self.own, clean)
        model = self.own.fit(poisoning.data)
        seconds = self._cost(start)
        values = metrics.evaluate(model, self.dataset.test, poisoning, self.own, self.dataset.classes)
        assert self.job.parent is not None and self.stage.attack is not None
        measure = catalog.attack(self.stage.attack).measure
        details = {**poisoning.details, "target_class": poisoning.target_class}
        if poisoning.trigger is not None and poisoning.target_class is not None:
            test, target, classes = self.dataset.test, poisoning.target_class, self.dataset.classes
            details |= metrics.asr_counts(values, test.labels, target, classes)
            untriggered = metrics.backdoor_metrics(partial(self.own.predict, clean), test, target, classes)
            details["target_rate_clean_model"] = untriggered.get("asr")
        seen = effect(measure, self.job.parent["metrics"], {**_numbers(details), **values})
        details["effective"] = seen.effective
        self._keep_model(model)
        picture.keep_poisoning(self.job.folder, poisoning)
        return self._outcome(
            model,
            values,
            seconds,
            details=details,
            notes=(seen.sentence,),
            examples=picture.poisoned_examples(self.dataset, poisoning),
            labels=poisoning.data.labels.numpy(),
            poisoned=poisoning.mask.numpy(),
            **picture.trigger_arrays(poisoning.trigger),
        )

    def _defense(self) -> Outcome:
        assert self.stage.defense is not None
        load_defense(catalog.defense(self.stage.defense))  # what it imports, as scikit-learn, is no cost of its own
        if self.stage.category == "evasion":
            return self._evasion_defense()
        poisoning, attacked = self._attacked()
        start = time.perf_counter()
        result = self._defend(poisoning.data, attacked)
        if isinstance(result, Detection):
            return self._removal(result, poisoning, start)
        seconds = self._cost(start)
        if isinstance(result, Findings):
            values = metrics.evaluate(attacked, self.dataset.test, poisoning, self.own, self.dataset.classes)
            histograms = {name: v.numpy() for name, v in result.histograms.items()}
            details = {**result.details, "suspicious": result.suspicious}
            return self._outcome(attacked, values, seconds, details=details, histograms=histograms)
        assert isinstance(result, Trained | Repaired)
        values = metrics.evaluate(result.model, self.dataset.test, poisoning, self.own, self.dataset.classes)
        self._keep_model(result.model)
        return self._outcome(result.model, values, seconds, details=result.details)

    def _removal(self, found: Detection, poisoning: Poisoning, start: float) -> Outcome:
        model = self._retrain(poisoning, found.flagged)
        seconds = self._cost(start)
        values = metrics.evaluate(model, self.dataset.test, poisoning, self.own, self.dataset.classes)
        values |= metrics.detection_metrics(found.scores, found.flagged, poisoning.mask)
        self._keep_model(model)
        picture.keep_indices(self.job.folder, ~found.flagged)
        picture.keep_scores(self.job.folder, found)
        return self._outcome(
            model,
            values,
            seconds,
            details=found.details,
            examples=picture.removed_examples(self.dataset, poisoning, found),
            scores=found.scores.numpy(),
            labels=poisoning.data.labels.numpy(),
            poisoned=poisoning.mask.numpy(),
            flagged=found.flagged.numpy(),
        )

    def _evasion(self) -> Outcome:
        """An attack at test time: the clean model stays as it is, the test images change."""
        assert self.stage.attack is not None and self.job.parent is not None
        model = self._clean_model()
        start = time.perf_counter()
        made = evasion.assault_clean(self._trial(self.own), model)
        seconds = self._cost(start)
        values = evasion.measure(model, made, self.dataset.test, self.own, self.dataset.classes)
        facts = evasion.facts(made)
        seen = effect("adversarial", self.job.parent["metrics"], {**values, **facts})
        details = {**facts, "effective": seen.effective}
        return self._assaulted(model, made, values, seconds, details, (seen.sentence,))

    def _evasion_defense(self) -> Outcome:
        clean = self._clean_model()
        undefended = evasion.assault_clean(self._trial(self.shared), clean)
        start = time.perf_counter()
        result = self._defend(self.dataset.train, clean)
        seconds = self._cost(start)
        assert isinstance(result, Trained | Guard)
        model = result.model if isinstance(result, Trained) else result
        trial = self._trial(self.own)
        static = evasion.shown(self.own, model, undefended)
        made = evasion.strongest(evasion.assault(trial, model), static)
        values = evasion.measure(model, made, self.dataset.test, self.own, self.dataset.classes)
        weaker, notes = evasion.weaker_attackers(trial, model, undefended, static, made)
        self._keep_model(model)
        details = {
            **result.details, **evasion.facts(made), **evasion.certificate(model, self.dataset.test, self.own),
        }  # fmt: skip
        return self._assaulted(model, made, values | weaker, seconds, details, notes)

    def _trial(self, bench: Workbench) -> evasion.Trial:
        assert self.stage.attack is not None
        return evasion.Trial(self.stage.attack, self.stage.own_params("attack"), self.dataset, bench, self._substitute)

    def _substitute(self, name: str, params: Mapping[str, Any]) -> Classifier:
        """Return a model of the attacker's own, trained on the clean training set from another seed."""
        seed = self.job.stage.seed
        bench = self.lab.bench(
            seed, self.job.device, self.progress, self.job.uid, ModelSettings(name=name, params=dict(params))
        )
        return bench.fit(self.dataset.train, phase="substitute", seed=seed + 1)

    def _assaulted(
        self,
        model: Classifier,
        made: evasion.Assault,
        values: dict[str, float],
        seconds: float,
        details: Mapping[str, Any],
        notes: tuple[str, ...],
    ) -> Outcome:
        return self._outcome(
            model, values, seconds, details=details, notes=notes,
            examples=picture.adversarial_examples(made),
            attacked=made.index.numpy(), attacked_labels=made.labels.numpy(), robust=made.index[made.robust].numpy(),
        )  # fmt: skip

    def _bound(self) -> Outcome:
        poisoning, _ = self._attacked()
        start = time.perf_counter()
        if self.stage.defense == PERFECT:
            flagged = poisoning.mask
        else:
            assert self.job.after is not None
            flagged = torch.zeros(len(poisoning.mask), dtype=torch.bool)
            rng = self.own.rng("random removal")
            count = int(self.job.after["metrics"]["removed"])
            flagged[torch.randperm(len(flagged), generator=rng)[:count]] = True
        model = self._retrain(poisoning, flagged)
        seconds = self._cost(start)
        values = metrics.evaluate(model, self.dataset.test, poisoning, self.own, self.dataset.classes)
        values |= metrics.detection_metrics(flagged.float(), flagged, poisoning.mask)
        values.pop("auroc", None)  # a bound removes, it does not rank
        return self._outcome(model, values, seconds, details=dict(self.stage.params))

    def _scan(self) -> Outcome:
        """Suspects as they came; the result's model is trained without those that something speaks against."""
        with LOADING:
            from safedl.pipeline import scan  # loads scikit-learn

        start = time.perf_counter()
        settings = ScanSettings.model_validate(dict(self.stage.params))
        found = scan.scan(self.dataset, self.own, settings, self.lab.folders)
        self.lab.check_suspect_weights()
        seconds = self._cost(start)
        values = {}
        if len(self.dataset.test):
            values = metrics.evaluate(found.model, self.dataset.test, None, self.own, self.dataset.classes)
        self._keep_model(found.model)
        picture.keep_indices(self.job.folder, found.examination.unsuspected)
        scan.keep(self.job.folder, found, self.dataset)
        return self._outcome(
            found.model,
            values,
            seconds,
            details={**found.details, **self._model_code()},
            sheet=scan.sheet(found, self.dataset),
            **picture.pattern_arrays(found.pattern, found.mask),
        )

    # --- what they share

    def _defend(self, data: ImageSet, model: Classifier) -> Any:
        """Return what the stage's defense makes of a training set and the model trained on it."""
        assert self.stage.defense is not None
        spec = catalog.defense(self.stage.defense)
        scenario = Scenario(
            data=data,
            trusted=self.dataset.trusted,
            classes=self.dataset.classes,
            model=model.clone(),
            bench=self.own,
            clean_model=self._clean_model if spec.clean_model else None,
        )
        return load_defense(spec)(scenario, spec.params.model_validate(dict(self.stage.params)))

    def _clean_model(self) -> Classifier:
        return self.shared.fit(self.dataset.train, phase="clean model")

    def _poisoning(self, bench: Workbench, clean: Classifier | None) -> Poisoning:
        assert self.stage.attack is not None
        return draw(self.stage.attack, self.stage.own_params("attack"), self.dataset, bench, clean)

    def _attacked(self) -> tuple[Poisoning, Classifier]:
        """Return the poison and the attacked model as the attack's stage made them."""
        assert self.stage.attack is not None
        needed = catalog.attack(self.stage.attack).needs_clean_model
        poisoning = self._poisoning(self.shared, self._clean_model() if needed else None)
        return poisoning, self.shared.fit(poisoning.data, phase="attacked model")

    def _retrain(self, poisoning: Poisoning, flagged: Tensor) -> Classifier:
        kept = poisoning.data.select(~flagged)
        left = kept.labels.unique().tolist()
        if len(left) < min(2, len(poisoning.data.labels.unique())):
            count = f"{int(flagged.sum())} of {len(flagged)} samples were flagged"
            rest = f"the others are all of class '{self.dataset.classes[left[0]]}'" if left else "none is left"
            raise SafedlError(f"nothing to train on: {count}, {rest}")
        return self.own.fit(kept, phase="retrain")

    def _model_code(self) -> dict[str, str]:
        """Return what a later export compares an own model's code with."""
        code = self.lab.model_code(self.stage.seed)
        return {"model_code": code} if code else {}

    def _cost(self, start: float) -> float:
        return time.perf_counter() - start + self.own.spared

    def _keep_model(self, model: Classifier) -> None:
        path = picture.files_of(self.job.folder) / "model.pt"
        # Copies: the model itself stays on its device, for what is still to be measured.
        torch.save({name: value.cpu() for name, value in model.state_dict().items()}, path)

    def _outcome(
        self, model: Classifier, values: dict[str, float], seconds: float, details: Mapping[str, Any], **rest: Any
    ) -> Outcome:
        parent = self.job.parent or {}
        baseline = self.job.baseline or {}
        notes = tuple(rest.pop("notes", ()))
        if self.stage.kind in ("defense", "bound") and not parent.get("effective", True):
            notes += ("attack not effective: this row ranks nothing",)
        timing = {"seconds": seconds, **_memory(self.job.device)}
        return Outcome(
            uid=self.job.uid,
            kind=self.stage.kind,
            category=self.stage.category,
            attack=self.stage.attack,
            defense=self.stage.defense,
            dataset=self.lab.data_settings.name,
            model=self.lab.model_settings.name,
            seed=self.stage.seed,
            layer=model.penultimate,
            classes=self.dataset.classes,
            params=self.stage.chain,
            metrics={**_numbers(details), **values},
            before=parent.get("metrics", {}),
            baseline=baseline.get("metrics", {}),
            details=dict(details),
            timing=timing,
            notes=notes,
            **rest,
        )


def _numbers(details: Mapping[str, Any]) -> dict[str, float]:
    """Return the plain numbers among a method's details: they become metrics."""
    return {k: float(v) for k, v in details.items() if isinstance(v, int | float) and not isinstance(v, bool)}


def _memory(device: torch.device) -> dict[str, float]:
    """Return the GPU's peak memory in MB since the stage began; nothing on a CPU.

    There only the whole process has a peak, which grows in the order of execution and is no stage's cost.
    """
    return {"memory_mb": torch.cuda.max_memory_allocated(device) / 2**20} if device.type == "cuda" else {}
