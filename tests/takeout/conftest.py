"""One small experiment of every kind of run, made once; exported from by the command line."""

from __future__ import annotations

import io
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import pytest

from safedl import cli
from safedl.pipeline.driver import Request, drive, prepare
from safedl.profile.load import parse
from safedl.workspace import Workspace
from tests.cli.conftest import Answer

PROFILE = """
name: small
dataset: {name: digits, subset: 40}
model: {name: cnn, params: {conv_filters: 8, hidden_size: 32}}
training: {epochs: 2, batch_size: 32, learning_rate: 0.003, precision: float32}
attack_overrides:
  data_poisoning:
    label_flipping: {flip_rate: 0.2, target_class: 1}
  backdoor:
    static_patch: {patch_size_ratio: 0.3, target_class: 2}
  evasion:
    fgsm: {max_samples: 20}
defense_config:
  data_poisoning:
    label_flipping: {defenses: [dp_training, per_class_monitoring], dp_training: {epochs: 1, epsilon: 50}}
  backdoor:
    static_patch: {defenses: [activation_clustering]}
  evasion:
    fgsm: {defenses: [jpeg_preprocessing, gradient_masking]}
"""


@dataclass(frozen=True)
class Place:
    """A workspace with one finished experiment; `runs` are the uids by stage, without the seed."""

    workspace: Workspace
    experiment: str
    runs: dict[str, str]

    def export(self, run: str, *options: str | Path) -> Answer:
        """Return what `safedl export` says; `run` is a stage or a uid."""
        uid = self.runs.get(run, run)
        out, err = io.StringIO(), io.StringIO()
        words = ["safedl", "--workspace", self.workspace.root, "export", uid, *options]
        with mock.patch("sys.argv", [str(w) for w in words]), redirect_stdout(out), redirect_stderr(err):
            try:
                cli.main()
                code = 0
            except SystemExit as end:
                code = int(end.code or 0)
        return Answer(code, out.getvalue(), err.getvalue())


def drive_profile(root: Path, text: str, **options: object) -> Place:
    """Return a workspace in which a profile was run, or scanned."""
    workspace = Workspace(root, root / "safedl.db")
    prepared = prepare(workspace, Request(profile=parse(text), device="cpu", workers=1, **options))  # type: ignore[arg-type]
    code, _ = drive(workspace, prepared, lambda _: None)
    assert code == 0
    uid = str(prepared.request.experiment)
    stages: dict[str, str] = workspace.read_plan(uid)["stages"]
    return Place(workspace, uid, {stage.removesuffix("@0"): run for stage, run in stages.items()})


@pytest.fixture(scope="session")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    return drive_profile(tmp_path_factory.mktemp("takeout"), PROFILE)
