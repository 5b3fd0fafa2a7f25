"""Poison is drawn once for all defenses: what it depends on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from safedl.cache import ArtifactCache
from safedl.data.imageset import Dataset, ImageSet
from safedl.pipeline.driver import Request, open_lab
from safedl.pipeline.poison import draw
from safedl.pipeline.stages import Job, execute
from safedl.plan import expand
from safedl.profile.load import parse
from safedl.progress import SILENT
from safedl.training.workbench import Workbench
from safedl.workspace import Workspace
from tests.conftest import make_bench


def test_data_of_other_contributors_is_other_data(digits: Dataset, bench: Workbench, tmp_path: Path) -> None:
    cached = replace(bench, cache=ArtifactCache(tmp_path))

    def sources(count: int) -> int:
        train = digits.train
        known = ImageSet(train.images, train.labels, torch.arange(len(train)) % count)
        drawn = draw("label_flipping", {}, replace(digits, train=known), cached, None).data.sources
        assert drawn is not None
        return len(drawn.unique())

    assert (sources(5), sources(50), sources(5)) == (5, 50, 5)


def test_another_seed_draws_other_poison_from_the_same_data(digits: Dataset, tmp_path: Path) -> None:
    params = {"flip_rate": 0.2, "target_class": 1}
    benches = (replace(make_bench(digits, seed=seed), cache=ArtifactCache(tmp_path)) for seed in (0, 0, 1))
    one, again, other = (draw("label_flipping", params, digits, bench, None).mask for bench in benches)
    assert torch.equal(one, again)
    assert not torch.equal(one, other)


def run_mostly_one_class(digits: Dataset, workspace: Workspace, text: str) -> dict[str | None, Any]:
    """Return the results, by stage, of a profile whose training images are nearly all of class 0."""
    train = digits.train.select((digits.train.labels == 0) | (torch.arange(len(digits.train)) % 200 == 0))
    profile = parse(f"name: one\ndataset: {{name: digits}}\nmodel: {{name: mlp, params: {{hidden_size: 4}}}}\n{text}")
    lab, _ = open_lab(workspace, Request(profile=profile, device="cpu", workers=1), "e")
    lab._datasets[0] = replace(digits, train=train)
    documents: dict[str | None, Any] = {None: None}
    for stage in expand(profile).stages:
        before = documents[stage.parent], documents.get("baseline@0"), documents[stage.after]
        job = Job(stage, "a", workspace.root / stage.id, torch.device("cpu"), *before)
        documents[stage.id] = execute(lab, job, SILENT)
    return documents


def test_data_that_an_attack_left_with_one_class_can_still_be_examined(digits: Dataset, workspace: Workspace) -> None:
    """All of the few images of other classes are poisoned: what a detector makes of that is a result like any other."""
    documents = run_mostly_one_class(
        digits, workspace,
        "training: {epochs: 1}\n"
        "attack_overrides: {backdoor: {static_patch: {poison_fraction: 0.5, target_class: 0}}}\n"
        "defense_config: {backdoor: {static_patch: {defenses: [activation_clustering], "
        "activation_clustering: {variant: literal}}}}",
    )  # fmt: skip
    assert documents["static_patch/activation_clustering@0"]["metrics"]["removed"] > 0
    assert documents["static_patch/perfect_removal@0"]["metrics"]["tpr"] == 1


def test_a_model_of_one_answer_has_no_backdoor(digits: Dataset, workspace: Workspace) -> None:
    """Nearly all images are of the target class, nobody is poisoned, and still every other image gets its label."""
    documents = run_mostly_one_class(
        digits, workspace,
        "training: {epochs: 10, learning_rate: 0.01}\n"
        "attack_overrides: {backdoor: {static_patch: {poison_fraction: 0, target_class: 0}}}",
    )  # fmt: skip
    found = documents["static_patch@0"]
    assert found["metrics"]["asr"] > 0.9
    assert found["target_rate_clean_model"] > 0.9
    assert found["effective"] is False
