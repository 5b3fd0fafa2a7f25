"""`safedl run`, `plan` and `export`, as a program reads them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NoReturn

import pytest

from .conftest import Safedl

MODULE = """
from torch import nn
print("said at import")
class Net(nn.Sequential):
    def forward(self, images):
        print("said in forward")
        return super().forward(images)
def get_model(num_classes):
    print("said in get_model")
    return Net(nn.Flatten(), nn.Linear(64, 8), nn.ReLU(), nn.Linear(8, num_classes))
"""
PROFILE = """
name: talker
dataset: {name: digits, subset: 20}
model: {path: talker.py}
training: {epochs: 1, precision: float32}
attack_overrides: {data_poisoning: {label_flipping: {flip_rate: 0.2, target_class: 1}}}
"""
SAID = {"said at import", "said in forward", "said in get_model"}


def test_what_a_module_prints_is_no_data(safedl: Safedl, tmp_path: Path) -> None:
    (tmp_path / "talker.py").write_text(MODULE)
    (tmp_path / "talker.yaml").write_text(PROFILE)
    planned = safedl("plan", "talker.yaml", "--json")
    assert [row["kind"] for row in json.loads(planned.out)] == ["baseline", "attack"]
    assert set(planned.err.splitlines()) >= SAID
    ran = safedl("run", "talker.yaml", "--json", "--workers", "1", "--device", "cpu")
    events = [json.loads(line) for line in ran.out.splitlines()]
    assert ran.code == 0 and events[-1]["status"] == "completed"
    assert set(ran.err.splitlines()) >= SAID - {"said at import"}
    exported = safedl("export", events[0]["stages"][0]["uid"], "--model", "a.safetensors")
    assert exported.out.split() == ["a.safetensors", "a.json"]
    assert set(exported.err.splitlines()) >= SAID - {"said at import"}


def test_a_report_that_cannot_be_written_is_said_and_is_no_go(safedl: Safedl, tmp_path: Path) -> None:
    (tmp_path / "quick.yaml").write_text(PROFILE.replace("{path: talker.py}", "{name: mlp}"))
    in_the_way = tmp_path / "results" / "final_report.md"
    in_the_way.mkdir(parents=True)
    ran = safedl("run", "quick.yaml")
    assert ran.code == 1 and "risk, comparison and report were not written: IsADirectoryError" in ran.err
    assert "report: " not in ran.err and "GO" not in ran.err and "safedl resume" in ran.err
    in_the_way.rmdir()
    again = safedl("resume")
    assert again.code == 0 and f"report: {in_the_way}" in again.err and in_the_way.is_file()


def test_an_older_report_is_not_taken_for_that_of_a_run_that_is_not_complete(
    safedl: Safedl, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "quick.yaml").write_text(PROFILE.replace("{path: talker.py}", "{name: mlp}"))
    (tmp_path / "results" / "risk_report.md").mkdir(parents=True)

    def fail(*_: object) -> NoReturn:
        raise ValueError("planted")

    monkeypatch.setattr("safedl.pipeline.executor.execute", fail)
    ran = safedl("run", "quick.yaml")
    assert ran.code == 3 and "report were not written" in ran.err
    assert "report: " not in ran.err and "GO" not in ran.err and "safedl resume" in ran.err


def test_who_changes_a_profile_and_resumes_is_told_that_the_change_is_not_in_it(safedl: Safedl, tmp_path: Path) -> None:
    profile = tmp_path / "none left.yaml"
    text = PROFILE.replace("{path: talker.py}", "{name: mlp}").replace("flip_rate: 0.2", "flip_rate: 0.0005")
    profile.write_text(text)
    first = safedl("run", str(profile))
    assert first.code == 3 and "nothing to poison" in first.err and "was changed since" not in first.err
    profile.write_text(text + "risk_analysis: {label_flipping: {severity: 0.5}}\n")  # as `safedl risk --write` does
    assert "was changed since" not in safedl("resume").err
    profile.write_text(text.replace("0.0005", "0.2"))
    again = safedl("resume")
    assert again.code == 3
    told = f"the profile was changed since, this goes on as it began; for the change: safedl run '{profile}'"
    assert told in " ".join(again.err.split())
    assert safedl("run", str(profile)).code == 0
    profile.unlink()
    assert "was changed since" not in safedl("resume").err
