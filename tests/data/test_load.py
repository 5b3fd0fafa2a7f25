"""Splitting by seed, subsets, trusted holdout, fingerprint."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from safedl.catalog.datasets import DATASETS
from safedl.catalog.settings import DatasetSettings
from safedl.data.imageset import ImageSet
from safedl.data.load import load, load_suspects
from safedl.data.split import by_class, trusted_counts
from safedl.errors import UsageError
from tests.conftest import Listening

DIGITS = DatasetSettings(name="digits")


def _keys(part: ImageSet) -> set[bytes]:
    return {image.numpy().tobytes() for image in part.images}


def _numbered(tmp_path: Path, per_class: int = 40, test: bool = False) -> DatasetSettings:
    """Write an .npz of images that all differ: the number of an image is written in its pixels."""
    count = 3 * per_class
    images = np.zeros((count, 4, 4), np.uint8)
    images[:, 0, 0], images[:, 0, 1] = np.arange(count) % 256, np.arange(count) // 256
    values = {"x_train": images, "y_train": np.arange(count) % 3}
    if test:
        values |= {"x_test": images[:9] + 100, "y_test": np.arange(9) % 3}
    np.savez(tmp_path / "numbered.npz", **values)
    return DatasetSettings(name="numbered", path=str(tmp_path / "numbered.npz"))


def test_digits_are_what_the_catalog_says() -> None:
    data = load(DIGITS, 0)
    spec = DATASETS["digits"]
    assert data.shape == spec.shape and len(data.classes) == spec.num_classes
    assert len(data.train) + len(data.trusted) + len(data.test) == spec.train_size
    assert len(data.trusted) == 200 and 490 <= len(data.test) <= 510
    assert int(data.train.images.max()) == 255


def test_parts_are_disjoint_and_complete(tmp_path: Path) -> None:
    data = load(_numbered(tmp_path), 0)
    train, trusted, test = map(_keys, (data.train, data.trusted, data.test))
    assert len(train | trusted | test) == 120 == len(train) + len(trusted) + len(test)
    assert torch.bincount(data.test.labels).tolist() == [11] * 3
    assert torch.bincount(data.trusted.labels).tolist() == [5] * 3


def test_a_test_part_of_its_own_is_left_alone(tmp_path: Path) -> None:
    data = load(_numbered(tmp_path, test=True), 0)
    assert len(data.test) == 9 and len(data.train) + len(data.trusted) == 120


def test_samples_of_a_class_are_drawn_as_one_class_after_another_would() -> None:
    labels = torch.randint(0, 7, (200,), generator=torch.Generator().manual_seed(0))
    labels[labels == 3] = 4
    counts = {0: 5, 2: 1000, 3: 4, 6: 0, 9: 2}
    rng, taken = torch.Generator().manual_seed(1), torch.zeros(200, dtype=torch.bool)
    for label, count in sorted(counts.items()):
        members = (labels == label).nonzero().flatten()
        taken[members[torch.randperm(len(members), generator=rng)[:count]]] = True
    assert torch.equal(by_class(labels, counts, torch.Generator().manual_seed(1)), taken)


def test_seed_fixes_the_split(tmp_path: Path) -> None:
    settings = _numbered(tmp_path)
    one, again, other = load(settings, 1), load(settings, 1), load(settings, 2)
    assert one.fingerprint == again.fingerprint != other.fingerprint
    assert torch.equal(one.train.images, again.train.images)
    assert _keys(one.test) != _keys(other.test)


def test_subset_limits_the_training_images_of_each_class(tmp_path: Path) -> None:
    settings = _numbered(tmp_path, test=True).model_copy(update={"subset": 10})
    data = load(settings, 0)
    both = torch.cat([data.train.labels, data.trusted.labels])
    assert torch.bincount(both).tolist() == [10] * 3
    assert torch.bincount(data.trusted.labels).tolist() == [2] * 3 and len(data.test) == 9


@pytest.mark.parametrize(
    ("size", "fraction", "count"),
    [(6000, 0.05, 300), (300, 0.05, 20), (100, 0.05, 20), (99, 0.05, 19), (48, 0.05, 9), (4, 0.05, 0),
     (6000, 0.0, 0), (6000, 0.2, 1200)],
)  # fmt: skip
def test_trusted_holdout_follows_its_three_limits(size: int, fraction: float, count: int) -> None:
    assert trusted_counts(torch.zeros(size, dtype=torch.long), fraction) == {0: count}


def _fingerprint(tmp_path: Path, **changes: np.ndarray) -> str:
    rng = np.random.default_rng(0)
    values = {
        "x_train": rng.integers(0, 256, (60, 4, 4), dtype=np.uint8), "y_train": np.arange(60) % 2,
        "x_test": rng.integers(0, 256, (6, 4, 4), dtype=np.uint8), "y_test": np.arange(6) % 2,
    } | changes  # fmt: skip
    np.savez(tmp_path / "data.npz", **values)
    return load(DatasetSettings(name="data", path=str(tmp_path / "data.npz")), 0).fingerprint


def test_fingerprint_tells_a_pixel_a_label_a_name_and_a_source(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (60, 4, 4), dtype=np.uint8)
    labels = np.arange(6) % 2
    pixel = images.copy()
    pixel[17, 2, 3] ^= 1
    other = labels.copy()
    other[3] = 0
    found = [
        _fingerprint(tmp_path),
        _fingerprint(tmp_path, x_train=pixel),
        _fingerprint(tmp_path, y_test=other),
        _fingerprint(tmp_path, classes=np.array(["cat", "dog"])),
        _fingerprint(tmp_path, sources=np.arange(60) % 4),
    ]
    assert len(set(found)) == 5
    assert _fingerprint(tmp_path, x_train=images) == found[0]


def test_sources_follow_their_images(tmp_path: Path) -> None:
    images = np.repeat(np.arange(60, dtype=np.uint8), 16).reshape(60, 4, 4)
    np.savez(tmp_path / "data.npz", x_train=images, y_train=np.arange(60) % 2, sources=np.arange(60) * 10)
    data = load(DatasetSettings(name="data", path=str(tmp_path / "data.npz")), 0)
    assert data.train.sources is not None
    assert torch.equal(data.train.sources, data.train.images[:, 0, 0, 0].long())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"name": "fashonmnist"}, "Did you mean 'fashionmnist'"),
        ({"name": "mine.py", "type": "custom"}, r"dataset\.name: no such file: mine\.py"),
        ({"path": "nowhere"}, r"dataset\.path: no such file: nowhere"),
        ({"path": "notes.txt"}, "neither an image folder"),
    ],
)
def test_unknown_data_is_refused(tmp_path: Path, settings: dict[str, str], message: str) -> None:
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(UsageError, match=message):
        load(DatasetSettings.model_validate(settings), 0, [tmp_path])


def test_too_few_images_to_split(tmp_path: Path) -> None:
    np.savez(tmp_path / "data.npz", x_train=np.zeros((2, 4, 4), np.uint8), y_train=np.arange(2))
    with pytest.raises(UsageError, match="too few images"):
        load(DatasetSettings(name="data", path=str(tmp_path / "data.npz")), 0)


def test_a_class_folder_may_have_any_bytes_as_its_name(tmp_path: Path) -> None:
    for name in (b"caf\xe9", b"tea\x1b[2J"):
        folder = tmp_path / os.fsdecode(name)
        folder.mkdir()
        for number in range(12):
            Image.new("L", (8, 8), number).save(folder / f"{number}.png")
    dataset = load(DatasetSettings(name="mine", type="custom", path=str(tmp_path)), 0)
    assert dataset.classes == ("caf\\udce9", "tea\x1b[2J")
    assert json.dumps(dataset.classes, ensure_ascii=False).encode()


def test_two_classes_of_one_name_are_refused(tmp_path: Path) -> None:
    (tmp_path / "data.py").write_text(
        "import numpy as np\n"
        "def get_dataset():\n"
        "    return dict(x_train=np.zeros((80, 8, 8), np.uint8), y_train=np.arange(80) % 2, classes=['a', 'a'])\n"
    )
    with pytest.raises(UsageError, match="two classes have the name 'a'"):
        load(DatasetSettings(name="mine", type="custom", path=str(tmp_path / "data.py")), 0)


def _write_set(path: Path, classes: list[str], count: int, value: int = 0) -> Path:
    images = np.full((count, 4, 4), value, np.uint8)
    images[:, 0, 0] = np.arange(count)
    np.savez(path, x_train=images, y_train=np.arange(count) % len(classes), classes=np.array(classes))
    return path


@pytest.mark.parametrize("trusted", [None, ""])
def test_every_image_of_a_suspect_set_is_there_in_its_order(tmp_path: Path, trusted: str | None) -> None:
    path = _write_set(tmp_path / "suspects.npz", ["a", "b"], 10)
    data = load_suspects(DatasetSettings(path=str(path)), trusted)
    assert data.train.images[:, 0, 0, 0].tolist() == list(range(10))
    assert len(data.trusted) == len(data.test) == 0


def test_a_subset_is_for_runs(tmp_path: Path) -> None:
    said: list[str] = []

    path = _write_set(tmp_path / "suspects.npz", ["a", "b"], 10)
    data = load_suspects(DatasetSettings(path=str(path), subset=2), None, progress=Listening(said))
    assert len(data.train) == 10 and said[:1] == ["dataset.subset is passed over: a scan examines every image"]


def test_trusted_classes_are_matched_by_name(tmp_path: Path) -> None:
    path = _write_set(tmp_path / "suspects.npz", ["a", "b", "c"], 9)
    trusted = _write_set(tmp_path / "known.npz", ["c", "a"], 6, value=9)
    data = load_suspects(DatasetSettings(path=str(path)), str(trusted))
    assert data.trusted.labels.tolist() == [2, 0, 2, 0, 2, 0]
    assert data.fingerprint != load_suspects(DatasetSettings(path=str(path)), None).fingerprint


def test_names_whose_accents_are_split_are_the_same(tmp_path: Path) -> None:
    path = _write_set(tmp_path / "suspects.npz", ["Mu\u0308ll", "b"], 6)
    trusted = _write_set(tmp_path / "known.npz", ["b", "M\u00fcll"], 4, value=9)
    data = load_suspects(DatasetSettings(path=str(path)), str(trusted))
    assert set(data.classes) == {"M\u00fcll", "b"}
    assert [data.classes[label] for label in data.trusted.labels.tolist()] == ["b", "M\u00fcll"] * 2
    twins = _write_set(tmp_path / "twins.npz", ["Mu\u0308ll", "M\u00fcll"], 6)
    with pytest.raises(UsageError, match="two classes have the name 'M\u00fcll'"):
        load_suspects(DatasetSettings(path=str(twins)), None)


def test_trusted_images_that_are_not_there_are_named_by_their_own_key(tmp_path: Path) -> None:
    path = _write_set(tmp_path / "set.npz", ["a", "b"], 6)
    with pytest.raises(UsageError, match=r"scan\.trusted: no such file: known\.npz"):
        load_suspects(DatasetSettings(path=str(path)), "known.npz", [tmp_path])


def test_trusted_images_of_other_classes_or_sizes_are_refused(tmp_path: Path) -> None:
    path = _write_set(tmp_path / "suspects.npz", ["a", "b"], 10)
    other = _write_set(tmp_path / "other.npz", ["a", "x"], 4)
    with pytest.raises(UsageError, match=r"other\.npz: class 'x' is none of the data's: a, b"):
        load_suspects(DatasetSettings(path=str(path)), str(other))
    np.savez(tmp_path / "large.npz", x_train=np.zeros((4, 5, 5), np.uint8), y_train=np.array(["a", "b"] * 2))
    with pytest.raises(UsageError, match=r"trusted images are \[1, 5, 5\], the data's \[1, 4, 4\]"):
        load_suspects(DatasetSettings(path=str(path)), str(tmp_path / "large.npz"))


def test_suspects_cannot_vouch_for_themselves(tmp_path: Path) -> None:
    path = _write_set(tmp_path / "suspects.npz", ["a", "b"], 10)
    images = np.load(path)["x_train"]
    mixed = np.concatenate([images[:3], images + 100])
    np.savez(tmp_path / "known.npz", x_train=mixed, y_train=np.array(["a", "b"])[np.arange(len(mixed)) % 2])
    said: list[str] = []

    data = load_suspects(DatasetSettings(path=str(path)), str(tmp_path / "known.npz"), progress=Listening(said))
    assert torch.equal(data.trusted.images[:, 0], torch.from_numpy(images + 100))
    assert "3 of 13 trusted images are among the suspects, and are left out" in said
    with pytest.raises(UsageError, match="all trusted images are among the suspects"):
        load_suspects(DatasetSettings(path=str(path)), str(path))


def _of_channels(path: Path, count: int, channels: int, first: int = 0) -> Path:
    images = np.full((count, 4, 4, channels), first, np.uint8)
    images[:, 0, 0] = np.arange(count)[:, None]
    np.savez(path, x_train=images, y_train=np.array(["a", "b"])[np.arange(count) % 2])
    return path


@pytest.mark.parametrize(("suspects", "trusted"), [(3, 1), (1, 3)])
def test_grey_trusted_images_fit_however_they_are_stored(tmp_path: Path, suspects: int, trusted: int) -> None:
    data = _of_channels(tmp_path / "suspects.npz", 10, suspects)
    known = _of_channels(tmp_path / "known.npz", 6, trusted, first=9)
    found = load_suspects(DatasetSettings(path=str(data)), str(known)).trusted.images
    assert found.shape == (6, suspects, 4, 4)
    assert found[:, :, 0, 0].tolist() == [[i] * suspects for i in range(6)]


def test_colour_does_not_fit_grey(tmp_path: Path) -> None:
    data = _of_channels(tmp_path / "suspects.npz", 10, 1)
    known = _of_channels(tmp_path / "known.npz", 6, 3)
    with np.load(known) as arrays:
        images, labels = arrays["x_train"].copy(), arrays["y_train"]
    images[2, 1, 1, 0] = 255
    np.savez(known, x_train=images, y_train=labels)
    with pytest.raises(UsageError, match=r"trusted images are \[3, 4, 4\], the data's \[1, 4, 4\]"):
        load_suspects(DatasetSettings(path=str(data)), str(known))


def test_copies_on_both_sides_of_the_split_are_counted(tmp_path: Path) -> None:
    said: list[str] = []

    load(_numbered(tmp_path), 0, progress=Listening(said))
    assert not said
    with np.load(tmp_path / "numbered.npz") as arrays:
        images, labels = np.tile(arrays["x_train"], (3, 1, 1)), np.tile(arrays["y_train"], 3)
    np.savez(tmp_path / "tripled.npz", x_train=images, y_train=labels)
    found = load(DatasetSettings(name="tripled", path=str(tmp_path / "tripled.npz")), 0, progress=Listening(said))
    twins = sum(key in _keys(found.train) for key in map(bytes, found.test.images.numpy().reshape(len(found.test), -1)))
    assert twins > len(found.test) / 2
    assert f"{twins} of {len(found.test)} test images are in the training set too: figures may flatter" in said


def test_that_small_values_of_16_bits_become_black_is_said(tmp_path: Path) -> None:
    said: list[str] = []

    pixels = np.arange(64, dtype=np.uint16).reshape(8, 8)
    for number in range(80):
        (tmp_path / str(number % 2)).mkdir(exist_ok=True)
        Image.fromarray(pixels + number).save(tmp_path / str(number % 2) / f"{number}.png")
    load(DatasetSettings(path=str(tmp_path)), 0, progress=Listening(said))
    assert any("of one colour throughout" in line and "16-bit values below 256 are black" in line for line in said)


@pytest.mark.parametrize(
    ("pixels", "said"),
    [
        (np.indices((4, 4)).sum(0) % 2, ["no image has a value above 1 of 255"]),
        (np.full((4, 4), 7), ["80 of 80 images are of one colour throughout"]),
        (np.arange(16).reshape(4, 4), ["no image has a value above 15 of 255"]),
        (np.arange(4, 20).reshape(4, 4), []),
    ],
)
def test_images_that_are_hard_to_see_are_told(tmp_path: Path, pixels: np.ndarray, said: list[str]) -> None:
    heard: list[str] = []

    images = np.tile(pixels.astype(np.uint8), (80, 1, 1))
    np.savez(tmp_path / "dull.npz", x_train=images, y_train=np.arange(80) % 2, x_test=255 - images, y_test=[0, 1] * 40)
    load(DatasetSettings(path=str(tmp_path / "dull.npz")), 0, progress=Listening(heard))
    told = [message for message in heard if "figures may flatter" not in message]
    assert [re.split("[:;]", message)[0] for message in told] == said
