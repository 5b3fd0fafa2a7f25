"""Built-in sets in torchvision's layouts, made up small, and fetched from files."""

from __future__ import annotations

import gzip
import hashlib
import os
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits
from torchvision import datasets

from safedl.catalog.datasets import DATASETS
from safedl.catalog.settings import DatasetSettings
from safedl.data import builtin, torchvision_sets
from safedl.data.builtin import data_folder, read_builtin
from safedl.data.download import Archive, fetch
from safedl.data.gtsrb import SIGNS
from safedl.data.load import load
from safedl.errors import UsageError
from safedl.progress import SILENT, Cancelled, Progress


def _idx(array: np.ndarray) -> bytes:
    """Return uint8 values in the IDX format that MNIST's authors describe."""
    return struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.astype(np.uint8).tobytes()


def _write_mnist(folder: Path, count: int = 100, gzipped: bool = False) -> np.ndarray:
    folder.mkdir(parents=True, exist_ok=True)
    images = np.random.default_rng(0).integers(0, 256, (count, 28, 28), dtype=np.uint8)
    for prefix in ("train", "t10k"):
        for name, values in (("images-idx3", images), ("labels-idx1", np.arange(count) % 10)):
            file = folder / f"{prefix}-{name}-ubyte"
            if gzipped:
                file.with_name(f"{file.name}.gz").write_bytes(gzip.compress(_idx(values)))
            else:
                file.write_bytes(_idx(values))
    return images


def _read(name: str, root: Path, download: bool = False, progress: Progress = SILENT) -> builtin.Raw:
    return read_builtin(DatasetSettings(name=name, root=str(root), download=download), (), None, progress)


@pytest.mark.parametrize(
    ("name", "folder"), [("mnist", "MNIST"), ("fashionmnist", "FashionMNIST"), ("kmnist", "KMNIST")]
)
def test_sets_in_mnists_format(tmp_path: Path, name: str, folder: str) -> None:
    images = _write_mnist(tmp_path / folder / "raw")
    raw = _read(name, tmp_path)
    assert torch.equal(raw.train.images, torch.from_numpy(images)[:, None]) and raw.test is not None
    assert raw.train.labels.tolist() == [c % 10 for c in range(100)]
    assert len(raw.classes) == DATASETS[name].num_classes


def test_emnist_is_turned_upright(tmp_path: Path) -> None:
    folder = tmp_path / "EMNIST" / "raw"
    folder.mkdir(parents=True)
    images = np.random.default_rng(0).integers(0, 256, (47, 28, 28), dtype=np.uint8)
    for part in ("train", "test"):
        (folder / f"emnist-balanced-{part}-images-idx3-ubyte").write_bytes(_idx(images))
        (folder / f"emnist-balanced-{part}-labels-idx1-ubyte").write_bytes(_idx(np.arange(47)))
    raw = _read("emnist", tmp_path)
    assert len(raw.classes) == 47
    assert torch.equal(raw.train.images[:, 0], torch.from_numpy(images).transpose(1, 2))


def _write_gtsrb(root: Path, names: bool) -> None:
    base = root / "gtsrb"
    rows = ["Filename;Width;Height;ClassId"]
    (base / "GTSRB/Final_Test/Images").mkdir(parents=True)
    for label in range(43):
        folder = base / "GTSRB/Training" / f"{label:05d}"
        folder.mkdir(parents=True)
        Image.new("RGB", (20 + label, 30), (label, 0, 0)).save(folder / "00000_00000.ppm")
        Image.new("RGB", (25, 25), (0, label, 0)).save(base / f"GTSRB/Final_Test/Images/{42 - label:05d}.ppm")
        rows.append(f"{42 - label:05d}.ppm;25;25;{label}")
    (base / "GT-final_test.csv").write_text("\n".join(rows))
    if names:
        (base / "class_names.csv").write_text("ClassId;Name\n14;My stop\n")


@pytest.mark.parametrize("names", [True, False])
def test_traffic_signs_are_resized_and_named(tmp_path: Path, names: bool) -> None:
    _write_gtsrb(tmp_path, names)
    (tmp_path / "gtsrb/GTSRB/Training/.thumbnails").mkdir()
    raw = _read("gtsrb", tmp_path)
    assert raw.test is not None
    assert raw.train.images.shape == (43, 3, 32, 32) and raw.test.images.shape == (43, 3, 32, 32)
    assert torch.equal(raw.train.images[:, 0, 0, 0].long(), raw.train.labels)
    assert torch.equal(raw.test.images[:, 1, 0, 0].long(), raw.test.labels)
    assert raw.classes[14] == ("My stop" if names else "Stop") and raw.classes[0] == SIGNS[0]
    settings = DatasetSettings(name="gtsrb", root=str(tmp_path))
    assert read_builtin(settings, (), (3, 24, 20), SILENT).train.images.shape == (43, 3, 24, 20)


def test_absent_data_tells_where_it_was_looked_for_and_how_to_get_it(tmp_path: Path) -> None:
    for name in DATASETS.keys() - {"digits"}:
        with pytest.raises(UsageError, match=rf"data set '{name}' is not in {tmp_path}; set dataset\.download: true"):
            _read(name, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_damaged_data_is_refused(tmp_path: Path) -> None:
    _write_mnist(tmp_path / "MNIST" / "raw")
    file = tmp_path / "MNIST/raw/train-images-idx3-ubyte"
    file.write_bytes(file.read_bytes()[:5000])
    with pytest.raises(UsageError, match=r"'mnist' in .* (damaged|cannot be read)"):
        _read("mnist", tmp_path)


def test_data_folder_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SAFEDL_DATA", raising=False)
    assert data_folder(None, ()).name == "data"
    monkeypatch.setenv("SAFEDL_DATA", str(tmp_path))
    assert data_folder(None, ()) == tmp_path
    (tmp_path / "b" / "sets").mkdir(parents=True)
    assert data_folder("sets", [tmp_path / "a", tmp_path / "b"]) == tmp_path / "b" / "sets"
    assert data_folder("new", [tmp_path / "a", tmp_path / "b"]) == tmp_path / "b" / "new"


class Recorder(Progress):
    """Keeps what was said; cancels in the given phase."""

    def __init__(self, cancel_in: str = "") -> None:
        self.cancel_in = cancel_in
        self.steps: list[tuple[str, int, int]] = []

    def step(self, phase: str, done: int, total: int) -> None:
        if self.cancel_in and self.cancel_in in phase:
            raise Cancelled
        self.steps.append((phase, done, total))


def _mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Set up a mirror of a small MNIST in a folder, and point the source at it."""
    mirror = tmp_path / "mirror"
    _write_mnist(mirror, gzipped=True)
    resources = [(f.name, hashlib.md5(f.read_bytes()).hexdigest()) for f in sorted(mirror.iterdir())]
    monkeypatch.setattr(datasets.MNIST, "resources", resources)
    monkeypatch.setattr(datasets.MNIST, "mirrors", ["file:///nowhere/", f"{mirror.as_uri()}/"])
    monkeypatch.setitem(
        torchvision_sets.SOURCES, "mnist", torchvision_sets.idx(datasets.MNIST, torchvision_sets.DIGITS)
    )
    return mirror


def test_absent_data_is_fetched_with_progress_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mirror = _mirror(tmp_path, monkeypatch)
    recorder, root = Recorder(), tmp_path / "data"
    raw = _read("mnist", root, download=True, progress=recorder)
    assert len(raw.train) == 100
    phases = [phase for phase, _, _ in recorder.steps]
    assert "download train-images-idx3-ubyte.gz" in phases
    assert all(done <= total for _, done, total in recorder.steps)
    for file in mirror.iterdir():
        file.unlink()
    assert len(_read("mnist", root, download=True).train) == 100


def test_cancelled_download_leaves_nothing_that_looks_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _mirror(tmp_path, monkeypatch)
    with pytest.raises(Cancelled):
        _read("mnist", tmp_path / "data", download=True, progress=Recorder("download train-labels"))
    left = sorted(p.name for p in (tmp_path / "data" / "MNIST" / "raw").iterdir())
    assert not [name for name in left if "train-labels" in name or name.endswith(".part")]
    assert len(_read("mnist", tmp_path / "data", download=True).train) == 100


def test_unreachable_or_altered_archives_are_refused(tmp_path: Path) -> None:
    (tmp_path / "there").write_bytes(b"altered")
    urls = ((tmp_path / "absent").as_uri(), (tmp_path / "there").as_uri())
    with pytest.raises(UsageError, match=r"cannot download file\.zip: .*absent.*checksum differs"):
        fetch([Archive(urls, "file.zip", "0" * 32)], tmp_path / "root", SILENT)
    assert list((tmp_path / "root").iterdir()) == []


def test_a_folder_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UsageError, match=r"cannot write to .*set dataset.root or SAFEDL_DATA"):
        _read("mnist", tmp_path / "file", download=True)


@pytest.mark.parametrize(
    ("name", "folder"),
    [("mnist", "MNIST"), ("fashionmnist", "FashionMNIST"), ("cifar10", "cifar-10-batches-py"), ("gtsrb", "gtsrb")],
)
def test_real_data(name: str, folder: str) -> None:
    if not (Path(os.environ.get("SAFEDL_DATA") or "nowhere") / folder).is_dir():
        pytest.skip("SAFEDL_DATA does not hold it")
    data = load(DatasetSettings(name=name, download=False), 0)
    spec = DATASETS[name]
    assert data.shape == spec.shape and len(data.classes) == spec.num_classes
    if name != "gtsrb":  # parts of it are in use
        assert len(data.train) + len(data.trusted) == spec.train_size and len(data.test) == spec.test_size
    assert torch.bincount(data.test.labels, minlength=spec.num_classes).min() > 0


def test_the_digits_are_those_of_scikit_learn() -> None:
    digits, known = read_builtin(DatasetSettings(name="digits"), (), None, SILENT), load_digits()
    assert torch.equal(digits.train.images[:, 0].double(), torch.from_numpy(known.images * (255 / 16)).round())
    assert torch.equal(digits.train.labels, torch.from_numpy(known.target).long())
    assert digits.classes == tuple(map(str, known.target_names))
