"""Parquet as Hugging Face keeps image data sets, written here as `datasets` does."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from safedl.catalog.settings import DatasetSettings
from safedl.data.imageset import Raw
from safedl.data.load import load
from safedl.data.parquet import read_parquet
from safedl.data.sources import read
from safedl.errors import UsageError
from safedl.progress import SILENT, Cancelled, Progress

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")

PIXELS = np.random.default_rng(0).integers(0, 256, (12, 6, 5), dtype=np.uint8)


def _png(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def _write(
    path: Path, numbers: range, labels: list[Any] | None = None, names: list[str] | None = None,
    columns: tuple[str, str] = ("image", "label"), struct: bool = True,
) -> None:  # fmt: skip
    encoded = [_png(PIXELS[i]) for i in numbers]
    images = pa.array(
        [{"bytes": data, "path": f"{i}.png"} for i, data in zip(numbers, encoded, strict=True)] if struct else encoded
    )
    given = labels if labels is not None else [i % 2 for i in numbers]
    table = pa.table({columns[0]: images, columns[1]: pa.array(given)})
    if names:
        features = {columns[0]: {"_type": "Image"}, columns[1]: {"names": names, "_type": "ClassLabel"}}
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path)


def _read(path: Path) -> Raw:
    return read(DatasetSettings(path=str(path)), (), None, SILENT)


def _images(numbers: range) -> torch.Tensor:
    return torch.from_numpy(PIXELS[list(numbers)]).unsqueeze(1)


def test_parts_and_class_names(tmp_path: Path) -> None:
    data = tmp_path / "data"
    _write(data / "train-00000-of-00002.parquet", range(4), names=["cat", "dog"])
    _write(data / "train-00001-of-00002.parquet", range(4, 8), names=["cat", "dog"])
    _write(data / "test-00000-of-00001.parquet", range(8, 11), names=["cat", "dog"])
    raw = _read(tmp_path)
    assert raw.classes == ("cat", "dog") and raw.test is not None
    assert torch.equal(raw.train.images, _images(range(8))) and raw.train.labels.tolist() == [0, 1] * 4
    assert torch.equal(raw.test.images, _images(range(8, 11))) and raw.test.labels.tolist() == [0, 1, 0]


def test_a_validation_part_measures_where_there_is_no_test_part(tmp_path: Path) -> None:
    _write(tmp_path / "train.parquet", range(6))
    _write(tmp_path / "validation-00000-of-00001.parquet", range(6, 8))
    raw = _read(tmp_path)
    assert raw.test is not None and torch.equal(raw.test.images, _images(range(6, 8)))
    _write(tmp_path / "test.parquet", range(8, 10))
    raw = _read(tmp_path)
    assert raw.test is not None and torch.equal(raw.test.images, _images(range(8, 10))) and len(raw.train) == 6


@pytest.mark.parametrize("columns", [("image", "labels"), ("img", "fine_label")])
def test_a_single_file_with_plain_bytes_and_other_columns(tmp_path: Path, columns: tuple[str, str]) -> None:
    _write(tmp_path / "mine.parquet", range(6), columns=columns, struct=False)
    raw = _read(tmp_path / "mine.parquet")
    assert raw.classes == ("0", "1") and raw.test is None and torch.equal(raw.train.images, _images(range(6)))


def test_labels_may_be_texts_and_the_set_is_split_as_any_other(tmp_path: Path) -> None:
    _write(tmp_path / "mine.parquet", range(12), labels=["dog", "cat"] * 6)
    found = load(DatasetSettings(path=str(tmp_path / "mine.parquet")), seed=0)
    assert found.classes == ("cat", "dog") and found.name == "mine"
    assert len(found.train) + len(found.trusted) + len(found.test) == 12


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda p: _write(p, range(4), columns=("picture", "label")), "no column image or img; it has: picture, label"),
        (lambda p: _write(p, range(4), columns=("image", "class")), "no column label or labels"),
        (lambda p: _write(p, range(4), labels=[0, 1, None, 1]), "row 2: column 'label' holds no class"),
        (lambda p: _write(p, range(4), labels=[0, 1, -1, 1]), "labels must be 0 or more"),
        (lambda p: p.write_bytes(b"PAR1 but not really"), "cannot read"),
        (lambda p: pq.write_table(pa.table({"image": [b"no image"] * 2, "label": [0, 1]}), p), "row 0: not an image"),
        (lambda p: pq.write_table(pa.table({"image": [None, None], "label": [0, 1]}), p), "row 0: column 'image'"),
    ],
)
def test_files_that_cannot_be_used_are_named(tmp_path: Path, write: Any, message: str) -> None:
    path = tmp_path / "bad.parquet"
    write(path)
    with pytest.raises(UsageError, match=message) as caught:
        _read(path)
    assert "bad.parquet" in str(caught.value) and "\n" not in str(caught.value)


def test_a_cancel_is_no_fault_of_the_file(tmp_path: Path) -> None:
    class Stopped(Progress):
        def step(self, phase: str, done: int, total: int) -> None:
            raise Cancelled("asked")

    _write(tmp_path / "mine.parquet", range(4))
    with pytest.raises(Cancelled):
        read_parquet(tmp_path / "mine.parquet", None, Stopped())


def test_without_pyarrow_the_message_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _write(tmp_path / "mine.parquet", range(4))
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(UsageError, match=r"pip install 'safedl\[parquet\]'"):
        _read(tmp_path / "mine.parquet")


@pytest.mark.parametrize(
    ("training", "measuring"),
    [("digits_train", "digits_test"), ("training", "testing"), ("train/0000", "test/0000"), ("Train", "dev")],
)
def test_a_word_of_a_file_or_its_folder_tells_the_part(tmp_path: Path, training: str, measuring: str) -> None:
    _write(tmp_path / f"{training}.parquet", range(8))
    _write(tmp_path / f"{measuring}.parquet", range(8, 11))
    raw = _read(tmp_path)
    assert raw.test is not None
    assert torch.equal(raw.train.images, _images(range(8))) and torch.equal(raw.test.images, _images(range(8, 11)))


def test_the_name_of_the_set_itself_is_no_part(tmp_path: Path) -> None:
    _write(tmp_path / "test" / "train.parquet", range(8))
    _write(tmp_path / "test" / "more.parquet", range(8, 11))
    raw = _read(tmp_path / "test")
    assert raw.test is None and len(raw.train) == 11


def test_a_table_about_images_is_not_the_data(tmp_path: Path) -> None:
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "x.png").write_bytes(_png(PIXELS[0]))
    pq.write_table(pa.table({"file": ["cat/x.png"]}), tmp_path / "index.parquet")
    assert _read(tmp_path).classes == ("cat", "dog")


def test_names_whose_accents_are_split_are_the_same(tmp_path: Path) -> None:
    _write(tmp_path / "train-00000.parquet", range(4), names=["M\u00fcll", "dog"])
    _write(tmp_path / "test-00000.parquet", range(4, 8), names=["Mu\u0308ll", "dog"])
    assert _read(tmp_path).classes == ("M\u00fcll", "dog")


@pytest.mark.parametrize("other", ["train-00001.parquet", "test-00000.parquet"])
def test_files_that_number_their_classes_differently_are_refused(tmp_path: Path, other: str) -> None:
    _write(tmp_path / "train-00000.parquet", range(4), names=["cat", "dog"])
    _write(tmp_path / other, range(4, 8), names=["dog", "cat"])
    with pytest.raises(UsageError, match="class 0 is dog here and cat in the training part"):
        _read(tmp_path)


def test_files_further_down_are_named(tmp_path: Path) -> None:
    _write(tmp_path / "full" / "train-00000.parquet", range(6))
    _write(tmp_path / "cropped" / "train" / "0000.parquet", range(6))
    with pytest.raises(UsageError, match="holds Parquet files further down, in cropped, full; name that folder"):
        _read(tmp_path)
    assert len(_read(tmp_path / "full").train) == 6


def test_hidden_files_further_down_are_passed_over(tmp_path: Path) -> None:
    _write(tmp_path / ".cache" / "train-00000.parquet", range(6))
    for number in range(4):
        file = tmp_path / "ab"[number % 2] / str(number)  # images without an ending
        file.parent.mkdir(exist_ok=True)
        Image.new("L", (8, 8), number).save(file, format="png")
    assert _read(tmp_path).classes == ("a", "b")


def test_a_bad_row_is_counted_within_its_file(tmp_path: Path) -> None:
    _write(tmp_path / "train-0.parquet", range(3))
    _write(tmp_path / "train-1.parquet", range(3, 6), labels=[0, None, 1])
    with pytest.raises(UsageError, match=r"train-1.parquet: row 1: column 'label'"):
        _read(tmp_path)
