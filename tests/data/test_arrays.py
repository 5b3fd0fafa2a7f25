"""Arrays: layouts, value ranges, labels, and `.npz` files that cannot be used."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from safedl.data.arrays import from_mapping, read_npz, to_images
from safedl.errors import UsageError

RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 256, (6, 5, 4), dtype=np.uint8)
COLOUR = RNG.integers(0, 256, (6, 5, 4, 3), dtype=np.uint8)
LABELS = np.array([0, 1, 0, 1, 0, 1])


def test_layouts_lead_to_the_same_images() -> None:
    first = torch.from_numpy(COLOUR).permute(0, 3, 1, 2)
    for given in (COLOUR, first, COLOUR.transpose(0, 3, 1, 2), torch.from_numpy(COLOUR)):
        assert torch.equal(to_images(given, ""), first)
    for given in (GREY, GREY[..., None], torch.from_numpy(GREY), torch.from_numpy(GREY)[:, None]):
        assert torch.equal(to_images(given, ""), torch.from_numpy(GREY)[:, None])


def test_where_both_layouts_fit_arrays_are_channels_last_and_tensors_first() -> None:
    odd = RNG.integers(0, 256, (2, 3, 7, 3), dtype=np.uint8)
    assert to_images(odd, "").shape == (2, 3, 3, 7)
    assert to_images(torch.from_numpy(odd), "").shape == (2, 3, 7, 3)


@pytest.mark.parametrize("given", [GREY / 255, (GREY / 255).astype(np.float32), GREY.astype(np.int64),
                                   GREY / 255 * 1.00005, GREY / 255 - 0.00005,  # as resizing leaves them
                                   GREY.astype(np.uint32), GREY.astype(np.uint64)])  # fmt: skip
def test_floats_and_whole_numbers_give_the_same_bytes(given: np.ndarray) -> None:
    assert torch.equal(to_images(given, ""), torch.from_numpy(GREY)[:, None])


def test_booleans_are_black_and_white() -> None:
    assert to_images(np.array([[[True, False]]]), "").flatten().tolist() == [255, 0]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (GREY.astype(float), "floats must lie in \\[0, 1\\], found 0 to \\d+; divide them by the largest"),
        (GREY / 255 - 0.5, "leave normalisation out"),
        (np.full((2, 4, 4), np.nan), "some values are not finite"),
        (np.array([[[0.5, np.inf], [-np.inf, 0]]]), "some values are not finite"),
        (GREY.astype(int) + 200, "0 to 255, found .*; make them floats, divided by"),
        (GREY.astype(int) - 300, "0 to 255, found -300 to -\\d+$"),
        (np.zeros((3, 4, 4, 2), np.uint8), "no axis of 1 or 3 channels"),
        (np.zeros((3, 4), np.uint8), "expected N x H x W"),
        (np.zeros((0, 4, 4), np.uint8), "no images"),
        (GREY.astype(np.uint64) + 2**63, "0 to 255, found 9.22337e\\+18"),
        (GREY.astype(np.complex64), "complex numbers cannot be used"),
        (torch.from_numpy(GREY).to_sparse(), "sparse tensor cannot be used"),
        (np.array(["a", "b"]), "cannot be used as numbers"),
        ([[1, 2], [3]], "cannot be used as numbers"),
    ],
)
def test_unusable_images_are_refused(given: Any, message: str) -> None:
    with pytest.raises(UsageError, match=f"^here: .*{message}"):
        to_images(given, "here")


@pytest.mark.parametrize("names", [("x_train", "y_train", "x_test", "y_test"),
                                   ("train_images", "train_labels", "test_images", "test_labels")])  # fmt: skip
def test_npz_under_either_set_of_names(tmp_path: Path, names: tuple[str, ...]) -> None:
    values = dict(zip(names, (COLOUR, LABELS[:, None], COLOUR[:2], LABELS[:2, None]), strict=True))
    np.savez_compressed(tmp_path / "a.npz", **values, val_images=GREY)
    raw = read_npz(tmp_path / "a.npz")
    assert raw.classes == ("0", "1") and raw.train.labels.tolist() == LABELS.tolist()
    assert raw.test is not None and torch.equal(raw.test.images, raw.train.images[:2])


def test_labels_may_be_texts() -> None:
    animals = np.array(["dog", "cat", "dog", "cat", "dog", "cat"])
    raw = from_mapping({"x_train": GREY, "y_train": animals, "x_test": GREY, "y_test": animals}, "here")
    assert raw.classes == ("cat", "dog") and raw.train.labels.tolist() == [1, 0] * 3
    for classes in (["dog", "cat"], {"cat": 1, "dog": np.int64(0)}, {"dog": 0, "cat": 1}.keys()):
        named = from_mapping({"x_train": GREY, "y_train": animals, "classes": classes}, "here")
        assert named.classes == ("dog", "cat") and named.train.labels.tolist() == [0, 1] * 3


def test_texts_whose_accents_are_split_are_the_same_class() -> None:
    whole, split = "M\u00fcll", "Mu\u0308ll"
    values = {"x_train": GREY, "y_train": [whole, "b", split, "b", whole, "b"], "x_test": GREY[:1], "y_test": [split]}
    raw = from_mapping(values, "here")
    assert raw.classes == (whole, "b") and raw.train.labels.tolist() == [0, 1, 0, 1, 0, 1]
    assert raw.test is not None and raw.test.labels.tolist() == [0]
    assert from_mapping({**values, "classes": [split, "b"]}, "here").classes == (whole, "b")


def test_texts_that_are_numbers_are_numbered_as_in_a_folder() -> None:
    raw = from_mapping({"x_train": GREY, "y_train": np.array(["10", "9", "1"] * 2)}, "here")
    assert raw.classes == ("1", "9", "10") and raw.train.labels.tolist() == [2, 1, 0] * 2


@pytest.mark.parametrize("kind", [object, *([np.dtypes.StringDType()] if hasattr(np.dtypes, "StringDType") else [])])
def test_texts_may_be_objects_or_of_numpys_own_kind(kind: Any) -> None:
    animals = np.array(["dog", "cat"] * 3, dtype=kind)
    raw = from_mapping({"x_train": GREY, "y_train": animals}, "here")
    assert raw.classes == ("cat", "dog") and raw.train.labels.tolist() == [1, 0] * 3


def test_numbers_may_come_from_another_machine() -> None:
    labels = np.array([0, 1, 0, 1, 0, 1], dtype=">i4")
    raw = from_mapping({"x_train": GREY.astype(">u2"), "y_train": labels}, "here")
    assert raw.train.labels.tolist() == labels.tolist() and torch.equal(raw.train.images[:, 0], torch.from_numpy(GREY))


def test_texts_may_be_bytes() -> None:
    animals = np.array(["dög", "cat"] * 3)
    encoded = np.char.encode(animals, "utf-8")
    for labels, classes in ((animals, [b"cat", "dög".encode()]), (encoded, ["cat", "dög"]), (encoded, encoded[1::-1])):
        raw = from_mapping({"x_train": GREY, "y_train": labels, "classes": classes}, "here")
        assert raw.classes == ("cat", "dög") and raw.train.labels.tolist() == [1, 0] * 3
    assert from_mapping({"x_train": GREY, "y_train": encoded}, "here").classes == ("cat", "dög")


@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.uint64, np.float16, np.float64, bool])
def test_labels_are_whole_numbers_of_any_type(kind: type) -> None:
    assert from_mapping({"x_train": GREY, "y_train": LABELS.astype(kind)}, "").train.labels.tolist() == LABELS.tolist()


def test_sources_are_numbered() -> None:
    raw = from_mapping({"x_train": GREY, "y_train": LABELS, "sources": ["b", "a", "b", "c", "a", "a"]}, "here")
    assert raw.train.sources is not None and raw.train.sources.tolist() == [1, 0, 1, 2, 0, 0]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"x_train": None}, "no x_train or train_images; it has: y_train$"),
        ({"y_train": LABELS[:5]}, "6 images, but 5 labels"),
        ({"y_train": LABELS + 1}, "training labels are 1 to 2; number the classes from 0 on"),
        ({"y_train": LABELS * 2}, "must be 0 to 1, each at least once; class 1 has no image"),
        ({"y_train": LABELS * 1_000_000_000}, "class 1 has no image"),
        ({"y_train": LABELS - 1}, "0 or more, found -1"),
        ({"y_train": LABELS * 0 + 1}, "all training labels are 1; a classifier needs two classes or more"),
        ({"x_train": GREY[:0], "y_train": LABELS[:0]}, "here: "),
        ({"y_train": LABELS * 0.5}, "whole numbers 0 to K - 1, found 0.5"),
        ({"y_train": np.where(LABELS, np.inf, 0)}, "whole numbers"),
        ({"y_train": LABELS.astype(np.uint64) + np.uint64(2**64 - 2)}, "whole numbers 0 to K - 1, found 1.84467e"),
        ({"y_train": LABELS + 1j}, "complex numbers cannot be used"),
        ({"y_train": [[1], [2, 3]]}, "one number for each image: ValueError"),
        ({"y_train": np.eye(6)}, "one number for each image, .*take argmax\\(1\\)"),
        ({"classes": ["a", "b", "c"]}, "class 2 has no image"),
        ({"classes": ["a"]}, "class 1 has no name"),
        *(({"classes": value}, "here: classes must be a list of names")
          for value in (np.array("ab"), 5, "ab", b"ab", np.array([["a", "b"]]), ["a", ["b"]], torch.tensor(3),
                        {"a", "b"}, frozenset("ab"))),
        *(({"classes": value}, "here: classes as a mapping must give each name its own index, 0 to K - 1")
          for value in ({"a": 1, "b": 2}, {"a": 0, "b": 0}, {0: "a", 1: "b"}, {"a": 0, "b": None}, {"a": 0, "b": 1.0})),
        ({"x_test": GREY}, "must come together"),
        ({"x_test": COLOUR, "y_test": LABELS}, r"test images are \[3, 5, 4\]"),
        ({"x_test": GREY, "y_test": LABELS * 2}, "y_test has class 2"),
        ({"x_test": GREY, "y_test": ["x"] * 6}, "unknown class 'x'"),
        ({"sources": [1, 2]}, "2 for 6 training images"),
    ],
)  # fmt: skip
def test_unusable_mappings_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        from_mapping({"x_train": GREY, "y_train": LABELS} | changes, "here")


def test_a_file_is_told_by_what_it_holds(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", foo=GREY, bar=LABELS)
    with pytest.raises(UsageError, match=r"no x_train or train_images; it has: foo, bar$"):
        read_npz(tmp_path / "a.npz")
    (tmp_path / "text.npz").write_text("a table\n")
    with pytest.raises(UsageError, match=r"it is no \.npz file"):
        read_npz(tmp_path / "text.npz")


def test_pickled_objects_are_not_loaded(tmp_path: Path) -> None:
    objects = np.array([{"code": 1}], dtype=object)
    np.savez(tmp_path / "a.npz", x_train=GREY, y_train=LABELS, notes=objects)
    assert len(read_npz(tmp_path / "a.npz").train) == 6  # what is not needed is not read
    np.savez(tmp_path / "a.npz", x_train=GREY, y_train=objects)
    with pytest.raises(UsageError, match=r"a\.npz: y_train holds pickled objects.*; save texts with astype\(str\)"):
        read_npz(tmp_path / "a.npz")


@pytest.mark.parametrize("content", [b"", b"no archive", b"PK\x03\x04broken"])
def test_damaged_npz_is_refused_by_name(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.npz").write_bytes(content)
    with pytest.raises(UsageError, match=r"cannot read .*a\.npz: ."):
        read_npz(tmp_path / "a.npz")


def test_truncated_npz_is_refused_by_name(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x_train=GREY, y_train=LABELS)
    content = (tmp_path / "a.npz").read_bytes()
    (tmp_path / "a.npz").write_bytes(content[: len(content) // 2])
    with pytest.raises(UsageError, match=r"cannot read .*a\.npz"):
        read_npz(tmp_path / "a.npz")
