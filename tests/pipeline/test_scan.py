"""A scan as an experiment: files, store, repetition, and what it leaves for people."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from safedl.catalog.settings import DatasetSettings, ModelSettings, TrainingSettings
from safedl.data.imageset import Dataset
from safedl.data.load import load_suspects
from safedl.models.build import build
from safedl.pipeline.scan import rank
from safedl.review import read_suspects, suspect_images
from safedl.scan.examine import Examination, Group
from safedl.scan.opinions import Opinion
from safedl.store.sql import query
from safedl.training.workbench import Workbench
from safedl.workspace import Workspace
from tests.cli.conftest import Answer, Safedl, safedl  # noqa: F401 - a fixture


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a patched set, a clean one, and trusted images, as files."""
    folder = tmp_path_factory.mktemp("sets")
    digits = load_digits()
    images, labels = np.round(digits.images / 16 * 255).astype(np.uint8), digits.target
    order = np.random.default_rng(0).permutation(len(images))
    images, labels = images[order], labels[order]
    np.savez(folder / "trusted.npz", x_train=images[:300], y_train=labels[:300])
    images, labels = images[300:1100].copy(), labels[300:1100].copy()
    np.savez(folder / "clean.npz", x_train=images, y_train=labels)
    chosen = np.flatnonzero(labels != 7)[:50]
    images[chosen, -2:, -2:], labels[chosen] = 255, 7
    np.savez(folder / "patched.npz", x_train=images, y_train=labels, x_test=images[-50:], y_test=labels[-50:])
    np.save(folder / "poison.npy", chosen)
    return folder


def test_a_patched_set_from_file_to_list(safedl: Safedl, sets: Path, tmp_path: Path) -> None:  # noqa: F811
    answer = safedl("scan", "--data", str(sets / "patched.npz"), "--trusted", str(sets / "trusted.npz"), "--json")
    assert answer.code == 3, answer.err
    found = json.loads(answer.out)
    assert found["verdict"] == "poisoned" and found["target_classes"] == [7]
    poison = set(np.load(sets / "poison.npy").tolist())
    listed = {s["index"] for s in found["suspicious"]}
    assert len(listed & poison) >= 48 and len(listed - poison) <= 5
    first = found["suspicious"][0]
    assert set(first) == {"index", "file", "given_label", "proposed_label", "score", "detectors", "group"}
    assert first["given_label"] == 7 and first["proposed_label"] != 7 and len(first["detectors"]) > 1
    folder = Workspace.open(tmp_path).run_folder(found["run"])
    suspects = read_suspects(folder)
    images = suspect_images(folder)
    originals = np.load(sets / "patched.npz")["x_train"]
    assert (images[5, 0] == originals[suspects[5].index]).all()
    names = {p.name for p in folder.rglob("*") if p.is_file()}
    assert {"result.json", "report.md", "contact_sheet.png", "trigger.png", "suspects.jsonl", "scores.npz"} <= names
    kept = np.load(folder / "files" / "kept_indices.npy")
    assert len(kept) == len(originals) - len(suspects)
    report = (folder / "report.md").read_text()
    assert "poisoned" in report and "could not have seen" in report and "contact_sheet.png" in report
    again = safedl("scan", "--data", str(sets / "patched.npz"), "--trusted", str(sets / "trusted.npz"))
    assert again.code == 3 and "done before" in again.err and "verdict: poisoned" in again.out
    rows = query(tmp_path / "safedl.db", "select kind, status, dataset from run").rows
    assert [tuple(r) for r in rows] == [("scan", "completed", "patched")]
    assert safedl("db", "reindex").code == 0
    assert query(tmp_path / "safedl.db", "select count(*) from run").rows[0][0] == 1


def test_the_certain_come_first_and_their_own_label_is_no_proposal(digits: Dataset) -> None:
    flagged = torch.tensor([True, True, True, False])
    opinion = Opinion("data_cleaning", torch.tensor([0.9, 0.5, 0.99, 0.1]), flagged, (), {})
    groups = (Group(torch.tensor([2]), 1, False, ""), Group(torch.tensor([0, 1]), 0, True, ""))
    train = digits.train.select(torch.arange(4)).with_labels(torch.tensor([0, 0, 1, 1]))
    found = Examination(groups, (opinion,), 4, True)
    assert found.suspects.tolist() == [2, 0, 1]
    ranked = rank(found, torch.tensor([0, 1, 0]), replace(digits, train=train))
    assert [(s.index, s.proposed_label) for s in ranked] == [(0, 1), (1, None), (2, 0)]


def test_a_clean_set_ends_with_exit_code_0(safedl: Safedl, sets: Path) -> None:  # noqa: F811
    answer = safedl("scan", "--data", str(sets / "clean.npz"))
    assert answer.code == 0, answer.err
    assert "verdict: no evidence" in answer.out
    assert "Without trusted images: poison whose images have no trait in common" in answer.out


@pytest.mark.parametrize(("made_of", "verdict"), [("patched.npz", "poisoned"), ("clean.npz", "no evidence")])
def test_a_profile_with_weights_inspects_the_model(
    safedl: Safedl, sets: Path, tmp_path: Path, made_of: str, verdict: str  # noqa: F811
) -> None:  # fmt: skip
    data = load_suspects(DatasetSettings(path=str(sets / made_of)), None)
    recipe, start = TrainingSettings(epochs=6), partial(build, ModelSettings(name="cnn"), data)
    weights = tmp_path / "weights.pt"
    torch.save(Workbench(start, "", recipe, torch.device("cpu"), 0).fit(data.train).state_dict(), weights)
    profile = {
        "name": "mine", "dataset": {"path": str(sets / "clean.npz")}, "model": {"name": "cnn"},
        "training": {"epochs": 6}, "scan": {"trusted": str(sets / "trusted.npz"), "weights": str(weights)},
    }  # fmt: skip
    (tmp_path / "mine.yaml").write_text(json.dumps(profile))
    answer = safedl("scan", "mine.yaml", "--json")
    found = json.loads(answer.out)
    assert answer.code == (3 if verdict == "poisoned" else 0) and found["data_verdict"] == "no evidence"
    assert found["model"]["verdict"] == found["verdict"] == verdict and found["model"]["accuracy"] > 0.9
    assert found["target_classes"] == ([7] if verdict == "poisoned" else [])
    assert set(found["model"]["classes"]) == set(found["classes"])


def test_a_model_that_has_learned_little_is_no_witness(safedl: Safedl, sets: Path) -> None:  # noqa: F811
    answer = safedl("scan", "--data", str(sets / "clean.npz"), "--epochs", "1", "--json")
    assert "what it has not learned it cannot show" in json.loads(answer.out)["limits"][0]


def test_names_in_the_data_are_shown_and_not_obeyed(safedl: Safedl, sets: Path) -> None:  # noqa: F811
    arrays = dict(np.load(sets / "patched.npz"))
    hostile = [f"{k}\x1b]0;OWNED\x07" for k in range(10)]
    np.savez(sets / "hostile.npz", **arrays, classes=np.array(hostile))
    answer = safedl("scan", "--data", str(sets / "hostile.npz"))
    assert answer.code == 3 and "7\\x1b]0;OWNED\\x07" in answer.out
    assert "\x1b" not in answer.out + answer.err and "\x07" not in answer.out + answer.err


def refused(answer: Answer, code: int, text: str) -> None:
    assert answer.code == code and text in answer.err and "Traceback" not in answer.err, answer.err
    assert answer.out == ""


def test_bad_input_is_refused_in_one_line(safedl: Safedl, sets: Path, tmp_path: Path) -> None:  # noqa: F811
    data = str(sets / "clean.npz")
    refused(safedl("scan"), 2, "name either a PROFILE or --data PATH")
    refused(safedl("scan", "digits", "--data", data), 2, "name either a PROFILE or --data PATH")
    refused(safedl("scan", "digits", "--trusted", data), 2, "--trusted: with a profile")
    refused(safedl("scan", "--data", "nowhere.npz"), 4, "--data: no such file or folder: nowhere.npz")
    refused(safedl("scan", "--data", data, "--model", "cmn"), 4, "--model: no such file or folder: cmn")
    (tmp_path / "w.pt").write_bytes(b"nothing")
    refused(safedl("scan", "--data", data, "--false-alarm-rate", "0.7"), 2, "false_alarm_rate")
    refused(safedl("scan", "--data", data, "--weights", "w.pt"), 2, "w.pt")
    refused(safedl("scan", "--data", data, "--weights", str(tmp_path)), 2, "is a folder")
    refused(safedl("scan", "--data", "caf\udce9.npz"), 2, "rename it")
    arrays = dict(np.load(data))
    np.savez(tmp_path / "few.npz", x_train=255 - arrays["x_train"][:60], y_train=arrays["y_train"][:60])
    refused(safedl("scan", "--data", data, "--trusted", "few.npz"), 2, "give at least 10 of each class")
    refused(safedl("scan", "--data", data, "--trusted", data), 2, "all trusted images are among the suspects")
    assert not Workspace.open(tmp_path).experiments()


def test_the_driver_can_be_left_running(safedl: Safedl, sets: Path, tmp_path: Path) -> None:  # noqa: F811
    answer = safedl("scan", "--data", str(sets / "clean.npz"), "--epochs", "1", "--detach")
    assert answer.code == 0, answer.err
    workspace = Workspace.open(tmp_path)
    uid = answer.out.strip()
    last: dict[str, Any] = {}
    for item in workspace.follow(uid):
        last = dict(item)
    assert last["status"] == "completed" and last["uid"] == uid


def test_a_model_that_does_not_know_the_data_is_not_judged(safedl: Safedl, sets: Path, tmp_path: Path) -> None:  # noqa: F811
    data = load_suspects(DatasetSettings(path=str(sets / "clean.npz")), None)
    torch.save(build(ModelSettings(name="cnn"), data, 5).net.state_dict(), tmp_path / "untrained.pt")
    answer = safedl("scan", "--data", str(sets / "clean.npz"), "--weights", "untrained.pt", "--epochs", "3", "--json")
    found = json.loads(answer.out)
    assert found["model"] is None and found["verdict"] == found["data_verdict"]
    told = [line for line in found["limits"] if "The model given tells the label of" in line]
    assert len(told) == 1 and "too few to inspect it" in told[0] and "normalisation" in told[0]
