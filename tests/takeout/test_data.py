"""Exported data: what is in it, that it is read back alike, and what is refused."""

from __future__ import annotations

import csv
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from safedl.catalog.settings import DatasetSettings
from safedl.data.arrays import read_npz
from safedl.data.folder import read_folder
from safedl.data.imageset import Dataset, ImageSet
from safedl.data.load import load_suspects
from safedl.errors import UsageError
from safedl.pipeline import takeout
from safedl.progress import SILENT
from safedl.review import Changes, decide, final_changes, read_decisions, read_suspects
from tests.takeout.conftest import Place, drive_profile

DETECTOR = "static_patch/activation_clustering"


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_detectors_data_is_exactly_what_it_kept(place: Place, tmp_path: Path, digits: Dataset) -> None:
    answer = place.export(DETECTOR, "--data", tmp_path / "a.npz", "--indices", tmp_path / "a.csv")
    assert answer.code == 0 and answer.out.split() == [str(tmp_path / "a.npz"), str(tmp_path / "a.csv")]
    files = place.workspace.run_folder(place.runs[DETECTOR]) / "files"
    kept = np.load(files / "kept_indices.npy")
    truth = np.load(place.workspace.run_folder(place.runs["static_patch"]) / "files" / "poisoning.npz")
    raw = read_npz(tmp_path / "a.npz")
    assert raw.train.labels.tolist() == truth["labels"][kept].tolist()
    assert raw.test is not None and torch.equal(raw.test.images, digits.test.images)
    assert torch.equal(raw.test.labels, digits.test.labels) and raw.classes == digits.classes
    # The poisoned images carry the trigger: an attack's own export has all of them.
    assert place.export("static_patch", "--data", tmp_path / "attacked.npz").code == 0
    attacked = read_npz(tmp_path / "attacked.npz").train
    assert attacked.labels.tolist() == truth["labels"].tolist()
    assert torch.equal(attacked.images[torch.from_numpy(kept)], raw.train.images)
    patch, pattern = truth["trigger_mask"][0] == 1, np.round(truth["trigger"] * 255)
    assert patch.any() and len(truth["poisoned_indices"]) > 0
    assert (attacked.images.numpy()[truth["poisoned_indices"]][:, :, patch] == pattern[:, patch]).all()
    rows = _rows(tmp_path / "a.csv")
    assert [int(r["index"]) for r in rows if r["action"] == "kept"] == kept.tolist()
    assert all(r["new_label"] == ("" if r["action"] == "dropped" else r["given_label"]) for r in rows)
    assert len(rows) == len(truth["labels"])
    with np.load(files / "scores.npz", allow_pickle=False) as found:
        assert (found["scores"].dtype, found["flagged"].dtype) == (np.float32, np.bool_)
        assert (~found["flagged"]).nonzero()[0].tolist() == kept.tolist()
        assert np.array([r["score"] for r in rows], np.float32).tolist() == found["scores"].tolist()


def test_the_app_exports_in_a_process_of_its_own(place: Place, tmp_path: Path) -> None:
    uid = place.runs[DETECTOR]
    said = place.workspace.export(uid, {"data": tmp_path / "b.npz", "indices": tmp_path / "b.csv"})
    assert said.splitlines()[-2:] == [str(tmp_path / "b.npz"), str(tmp_path / "b.csv")]
    assert place.export(DETECTOR, "--data", tmp_path / "a.npz").code == 0
    assert torch.equal(read_npz(tmp_path / "a.npz").train.images, read_npz(tmp_path / "b.npz").train.images)
    with pytest.raises(UsageError, match="exists already"):
        place.workspace.export(uid, {"data": tmp_path / "b.npz"})


def test_a_folder_is_read_back_with_the_same_images(place: Place, tmp_path: Path) -> None:
    assert place.export(DETECTOR, "--data", tmp_path / "a.npz").code == 0
    assert place.export(DETECTOR, "--data", tmp_path / "images").code == 0
    array, folder = read_npz(tmp_path / "a.npz"), read_folder(tmp_path / "images", None, SILENT)
    assert folder.classes == array.classes and array.test is not None and folder.test is not None
    for first, second in ((array.train, folder.train), (array.test, folder.test)):
        order = first.labels.argsort(stable=True)  # a folder has one class after the other
        assert torch.equal(first.images[order], second.images) and torch.equal(first.labels[order], second.labels)
    assert not list(tmp_path.glob(".*"))


def test_what_removes_nothing_is_exported_as_it_was_attacked_and_says_so(place: Place, tmp_path: Path) -> None:
    answer = place.export("label_flipping/dp_training", "--data", tmp_path / "a.npz")
    truth = np.load(place.workspace.run_folder(place.runs["label_flipping"]) / "files" / "poisoning.npz")
    assert "dp_training removes no samples" in answer.err and "as it was attacked" in answer.err
    assert read_npz(tmp_path / "a.npz").train.labels.tolist() == truth["labels"].tolist()
    assert truth["labels"].tolist() != truth["original_labels"].tolist()
    answer = place.export("fgsm/jpeg_preprocessing", "--data", tmp_path / "b.npz")
    assert "it is clean" in answer.err
    assert read_npz(tmp_path / "b.npz").train.labels.tolist() == truth["original_labels"].tolist()


def test_a_scan_drops_and_relabels_what_was_decided(tmp_path: Path, digits: Dataset) -> None:
    for label in (3, 1, 7):
        (tmp_path / "pictures" / f"no. {label}").mkdir(parents=True)
        members = (digits.train.labels == label).nonzero().flatten()[:40].tolist()
        for number, index in enumerate(members):
            pixels = digits.train.images[index, 0].numpy()
            Image.fromarray(pixels).save(tmp_path / "pictures" / f"no. {label}" / f"{number}.png")
    profile = f"""
name: own
dataset: {{path: "{tmp_path / "pictures"}"}}
model: {{name: mlp, params: {{hidden_size: 16}}}}
training: {{epochs: 2, precision: float32}}
"""
    place = drive_profile(tmp_path, profile, scan=True)
    uid = place.runs["scan"]
    listed = read_suspects(place.workspace.run_folder(uid))
    decide(place.workspace.results, uid, {**{s.index: "keep" for s in listed[1:]}, 5: "drop", 50: 2})
    answer = place.export(
        place.experiment, "--data", tmp_path / "clean.npz", "--indices", tmp_path / "clean.csv",
        "--model", tmp_path / "model.safetensors",
    )  # fmt: skip
    assert answer.code == 0, answer.err
    assert "1 relabelled" in answer.err
    changes = final_changes(listed, read_decisions(place.workspace.results, uid))
    given = read_folder(tmp_path / "pictures", None, SILENT)
    left = [i for i in range(120) if i not in changes.dropped]
    raw = read_npz(tmp_path / "clean.npz")
    assert 5 in changes.dropped and 50 in left
    assert torch.equal(raw.train.images, given.train.images[left]) and raw.test is None
    assert raw.train.labels.tolist() == [2 if i == 50 else int(given.train.labels[i]) for i in left]
    rows = _rows(tmp_path / "clean.csv")
    assert given.files is not None and given.files[50].startswith("no. 3/")
    names = {"given_class": given.classes[1], "new_class": given.classes[2]}  # the folder of the file is the former
    assert given.files[50].startswith(f"{given.classes[1]}/") and given.classes[1] != "1"
    assert rows[50] == {"index": "50", "file": given.files[50], "given_label": "1", "action": "relabelled",
                        "new_label": "2", **names}  # fmt: skip
    assert rows[5]["action"] == "dropped" and rows[5]["new_label"] == rows[5]["new_class"] == ""
    # A folder has the files' names; 5 and 50 show that classes are kept apart, and what was relabelled is told.
    assert place.export(uid, "--data", tmp_path / "clean").code == 0
    names = sorted(p.name for p in (tmp_path / "clean" / "train" / "no. 3").iterdir())
    kept = [i for i in left if given.train.labels[i] == 1 and i != 50]
    assert names == sorted(f"{Path(given.files[i]).stem}.png" for i in kept)
    moved = Path(given.files[50]).stem
    again = read_folder(tmp_path / "clean", None, SILENT)
    assert again.files is not None and again.test is None and len(again.train) == len(left)
    sevens = [name for name in again.files if name.startswith("train/no. 7/")]
    assert f"train/no. 7/{moved}_{50:03d}.png" in sevens or f"train/no. 7/{moved}.png" in sevens
    # Data that has changed since is not what the decisions are about.
    next((tmp_path / "pictures" / "no. 1").glob("*.png")).unlink()
    answer = place.export(uid, "--data", tmp_path / "again.npz")
    assert answer.code == 2 and "has changed since" in answer.err and not (tmp_path / "again.npz").exists()


def _change(digits: Dataset, changes: Changes) -> takeout.Data:
    return takeout.change(digits.train, None, changes, digits)


def test_decisions_that_cannot_be_meant_are_refused(digits: Dataset) -> None:
    with pytest.raises(UsageError, match="sample 999999"):
        _change(digits, Changes(frozenset({999_999}), {}))
    with pytest.raises(UsageError, match="gives class 10"):
        _change(digits, Changes(frozenset(), {0: 10}))


def test_a_class_that_would_be_empty_is_refused(digits: Dataset, tmp_path: Path) -> None:
    nines = frozenset((digits.train.labels == 9).nonzero().flatten().tolist())
    data = _change(digits, Changes(nines, {}))
    with pytest.raises(UsageError, match="no sample of class '9'"):
        takeout.write_data(tmp_path / "a.npz", data, SILENT)
    takeout.write_indices(tmp_path / "a.csv", data)
    assert sum(r["action"] == "dropped" for r in _rows(tmp_path / "a.csv")) == len(nines)
    assert [p.name for p in tmp_path.iterdir()] == ["a.csv"]


def test_colour_images_and_sources_survive(tmp_path: Path) -> None:
    rng = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (6, 3, 5, 4), generator=rng, dtype=torch.uint8)
    labels = torch.tensor([0, 1, 0, 1, 0, 1])
    data = ImageSet(images, labels, torch.tensor([0, 1, 1, 0, 0, 1]))
    dataset = Dataset("own", ("cat", "T-shirt/top"), data, data.select(torch.tensor([0])), data, "")
    taken = takeout.change(data, None, Changes(frozenset({4}), {}), dataset)
    takeout.write_data(tmp_path / "a.npz", taken, SILENT)
    raw = read_npz(tmp_path / "a.npz")
    assert torch.equal(raw.train.images, images[[0, 1, 2, 3, 5]]) and raw.classes == ("cat", "T-shirt/top")
    assert raw.train.sources is not None and raw.train.sources.tolist() == [0, 1, 1, 0, 1]
    names, order, sources = takeout.write_data(tmp_path / "images", taken, SILENT)
    assert "'T-shirt/top' is 'T-shirt_top'" in names and "numbered by their names" in order and "sources" in sources
    folder = read_folder(tmp_path / "images", None, SILENT)
    assert folder.classes == ("T-shirt_top", "cat") and torch.equal(folder.train.images, images[[1, 3, 5, 0, 2]])


def test_images_keep_the_names_of_their_files() -> None:
    files = ["train/7/img0222.png", "a/cat.JPG", "b/Cat.png", "x/\x1b.png", "y/_.png", "z/cat_1.png"]
    assert takeout.file_names(range(6), [0, 1, 1, 0, 1, 0], files) == ["img0222", "cat_1", "Cat_2", "3", "4", "cat_1"]
    assert takeout.file_names([1, 2, 5], [0, 0, 0], files) == ["1", "2", "5"]  # cat_1 is another's name
    assert takeout.file_names([1, 10], [0, 1], None) == ["01", "10"]


def test_a_run_on_a_folder_exports_its_names_and_parts(tmp_path: Path, digits: Dataset) -> None:
    for label in range(3):
        (tmp_path / "pictures" / str(label)).mkdir(parents=True)
        for index in (digits.train.labels == label).nonzero().flatten()[:30].tolist():
            pixels = digits.train.images[index, 0].numpy()
            Image.fromarray(pixels).save(tmp_path / "pictures" / str(label) / f"img{index:04d}.png")
    profile = f"""
name: own
dataset: {{path: "{tmp_path / "pictures"}", subset: 15}}
model: {{name: mlp, params: {{hidden_size: 16}}}}
training: {{epochs: 1, precision: float32}}
attack_overrides: {{data_poisoning: {{label_flipping: {{flip_rate: 0.2, target_class: 1}}}}}}
"""
    place = drive_profile(tmp_path, profile)
    options = ("--data", tmp_path / "out", "--indices", tmp_path / "out.csv")
    assert place.export("baseline", *options).code == 0
    raw = read_folder(tmp_path / "out", None, SILENT)
    original = read_folder(tmp_path / "pictures", None, SILENT)
    assert original.files is not None and raw.files is not None and raw.test is not None
    # each name stands for the image that it had before, and the listed files are those that are there
    where = {name: index for index, name in enumerate(original.files)}
    chosen = [where[name.removeprefix("train/")] for name in raw.files]
    assert torch.equal(raw.train.images, original.train.images[chosen]) and len(chosen) == 36
    assert sorted(r["file"] for r in _rows(tmp_path / "out.csv")) == sorted(original.files[i] for i in chosen)
    assert len(raw.test) == 24


@pytest.mark.parametrize(
    ("name", "folder"),
    [
        ("../../etc", "etc"), ("a/b", "a_b"), ("a\nb", "a_b"), (".hidden", "hidden"), ("__own", "own"),
        ("\x1b[2J", "2J"), ("Ä ö.", "Ä ö"), ("u\u0308b", "\u00fcb"), ("हिन्दी", "हिन्दी"), ("x" * 300, "x" * 100),
    ],
)  # fmt: skip
def test_names_of_classes_cannot_leave_the_folder_nor_be_passed_over(name: str, folder: str) -> None:
    assert takeout.folder_names((name, "other")) == (folder, "other")


@pytest.mark.parametrize(
    ("names", "message"),
    [(("..", "a"), "cannot name a folder"), (("a/b", "a?b"), "would both be the folder 'a_b'"), (("A", "a"), "both")],
)
def test_names_that_no_folder_can_have_are_refused(names: tuple[str, ...], message: str) -> None:
    with pytest.raises(UsageError, match=f"{message}.*npz"):
        takeout.folder_names(names)


def test_targets_that_are_taken_are_refused(place: Place, tmp_path: Path) -> None:
    full = tmp_path / "full"
    full.mkdir()
    (full / "mine.txt").write_text("mine")
    (tmp_path / "a.npz").write_text("mine")
    for target in (full, tmp_path / "a.npz"):
        answer = place.export("baseline", "--data", target)
        assert answer.code == 2 and str(target) in answer.err and len(answer.err.splitlines()) == 1
    assert place.export("baseline", "--data", full, "--force").code == 2
    assert (full / "mine.txt").read_text() == "mine" and (tmp_path / "a.npz").read_text() == "mine"
    assert place.export("baseline", "--data", tmp_path / "a.npz", "--force").code == 0
    assert len(read_npz(tmp_path / "a.npz").train) > 100


def test_runs_that_cannot_be_exported_are_refused(place: Place, tmp_path: Path) -> None:
    target = tmp_path / "out.npz"
    cases = {
        "no-such-run": (4, "no experiment or run is named 'no-such-run'; see: safedl runs ls"),
        place.experiment: (4, "several runs to export"),
        "static_patch/perfect_removal": (2, "is a bound"),
    }
    for run, (code, message) in cases.items():
        answer = place.export(run, "--data", target)
        assert answer.code == code and message in answer.err, answer
    (tmp_path / "file").write_text("")
    assert "is a file, no folder" in place.export("baseline", "--data", tmp_path / "file" / "a.npz").err
    (tmp_path / "file").unlink()
    assert "nothing to export" in place.export("baseline").err
    assert "an .npz file or as a folder" in place.export("baseline", "--data", tmp_path / "a.zip").err
    assert not list(tmp_path.iterdir())


def test_poison_that_cannot_be_drawn_again_is_refused(place: Place, tmp_path: Path) -> None:
    record = place.workspace.run_folder(place.runs["label_flipping"]) / "files" / "poisoning.npz"
    before = record.read_bytes()
    arrays = dict(np.load(record))
    np.savez(record, **{**arrays, "labels": arrays["labels"][::-1]})
    try:
        answer = place.export("label_flipping", "--data", tmp_path / "a.npz")
    finally:
        record.write_bytes(before)
    assert answer.code == 2 and "cannot be drawn again" in answer.err and not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--data", "out", "--model", "out/model.safetensors"), "none may lie within another"),
        (("--indices", "empty.csv"), "is a folder; name a file"),
        (("--model", "empty.pt2"), "is a folder; name a file"),
        (("--data", "link"), "no name for a new folder"),
        (("--data", "."), "no name for a new folder"),
        (("--data", "full"), "not empty"),
    ],
)
def test_places_that_cannot_be_written_are_refused_before_anything_is(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: tuple[str, ...], message: str
) -> None:
    for name in ("empty", "empty.csv", "empty.pt2", "full/held"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "empty")
    before = sorted(tmp_path.rglob("*"))
    monkeypatch.chdir(tmp_path)
    answer = place.export(DETECTOR, *options)
    assert answer.code == 2 and message in answer.err and not answer.out
    assert sorted(tmp_path.rglob("*")) == before


def test_names_of_any_case_length_and_bytes_can_be_written(place: Place, tmp_path: Path, digits: Dataset) -> None:
    assert place.export(DETECTOR, "--data", tmp_path / "A.NPZ").code == 0
    assert (tmp_path / "A.NPZ").is_file() and len(read_npz(tmp_path / "A.NPZ").train)
    assert len(load_suspects(DatasetSettings(path=str(tmp_path / "A.NPZ")), None).train)
    assert all(len(name.encode()) <= 100 for name in takeout.folder_names(("漢" * 100, "x" * 300)))
    odd = os.fsdecode(b"caf\xe9.png")
    train = digits.train.select(torch.arange(2))
    data = takeout.change(train, ("plain.png", odd), Changes(frozenset(), {}), digits)
    takeout.write_indices(tmp_path / "list.csv", data)
    assert b"caf\xe9.png" in (tmp_path / "list.csv").read_bytes()


@pytest.mark.parametrize(
    ("names", "anew"), [(("zebra", "ant"), True), (("ant", "zebra"), False), (("10", "9"), True), (("9", "10"), False)]
)
def test_a_folder_says_that_it_numbers_classes_anew(
    tmp_path: Path, digits: Dataset, names: tuple[str, ...], anew: bool
) -> None:
    few = Dataset("few", names, digits.train, digits.trusted, digits.test, "")
    chosen = digits.train.select(digits.train.labels < 2)
    small = replace(few, train=chosen, test=chosen.select(torch.zeros(len(chosen), dtype=torch.bool)))
    data = takeout.change(small.train, None, Changes(frozenset(), {}), small)
    notes = takeout.write_data(tmp_path / "out", data, SILENT)
    assert any("numbered by their names" in note for note in notes) is anew
    assert (read_folder(tmp_path / "out", None, SILENT).classes != names) is anew
