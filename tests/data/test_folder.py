"""Image folders: layouts, modes, sizes, and files that cannot be read."""

from __future__ import annotations

import io
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from safedl.data.folder import read_folder
from safedl.data.imageset import Raw
from safedl.errors import UsageError
from safedl.progress import SILENT
from tests.conftest import Listening


def _save(path: Path, colour: int | tuple[int, ...] = 0, size: tuple[int, int] = (8, 6), mode: str = "L") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, colour).save(path)


def _two_classes(root: Path) -> Path:
    for name in ("cat", "dog"):
        for number in range(3):
            _save(root / name / f"{number}.png", 10 * number)
    return root


def _read(root: Path, shape: tuple[int, int, int] | None = None) -> Raw:
    return read_folder(root, shape, SILENT)


def test_classes_alone_have_no_test_part(tmp_path: Path) -> None:
    raw = _read(_two_classes(tmp_path))
    assert raw.classes == ("cat", "dog") and raw.test is None
    assert raw.train.images.shape == (6, 1, 6, 8)
    assert raw.train.labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert raw.train.images[:, 0, 0, 0].tolist() == [0, 10, 20] * 2


def test_train_and_test_folders(tmp_path: Path) -> None:
    _two_classes(tmp_path / "train")
    _save(tmp_path / "test" / "dog" / "x.png", 77)
    raw = _read(tmp_path)
    assert raw.test is not None
    assert raw.test.labels.tolist() == [1] and raw.test.images.unique().tolist() == [77]


@pytest.mark.parametrize(
    ("training", "measuring"), [("Train", "Test"), ("Training", "Testing"), ("train", "val"), ("TRAIN", "Validation")]
)
def test_parts_have_many_names(tmp_path: Path, training: str, measuring: str) -> None:
    _two_classes(tmp_path / training)
    _save(tmp_path / measuring / "dog" / "x.png", 77)
    raw = _read(tmp_path)
    assert raw.classes == ("cat", "dog") and raw.test is not None
    assert (len(raw.train), raw.test.images.unique().tolist()) == (6, [77])


def test_of_two_parts_that_measure_test_counts_and_the_other_is_named(tmp_path: Path) -> None:
    for part, colour in (("train", 1), ("val", 2), ("test", 3)):
        for name in ("cat", "dog"):
            _save(tmp_path / part / name / "x.png", colour)
    said: list[str] = []

    raw = read_folder(tmp_path, None, Listening(said))
    assert raw.test is not None and raw.test.images.unique().tolist() == [3]
    assert said == [f"passed over in {tmp_path}: val"]


def test_classes_beside_a_part_are_refused(tmp_path: Path) -> None:
    _two_classes(tmp_path / "train")
    _save(tmp_path / "bus" / "x.png")
    with pytest.raises(UsageError, match=r"classes \(bus\) beside the part train"):
        _read(tmp_path)


def test_parts_that_measure_alone_are_no_classes(tmp_path: Path) -> None:
    _two_classes(tmp_path / "Test")
    _two_classes(tmp_path / "val")
    with pytest.raises(UsageError, match="no part to train on"):
        _read(tmp_path)


def test_numbers_are_classes_in_numeric_order(tmp_path: Path) -> None:
    for name in ("10", "9", "1"):
        _save(tmp_path / name / "a.png")
    assert _read(tmp_path).classes == ("1", "9", "10")


def test_mixed_sizes_are_resized_and_said_so(tmp_path: Path) -> None:
    _two_classes(tmp_path)
    _save(tmp_path / "cat" / "large.png", 200, (90, 40))
    said: list[str] = []

    assert read_folder(tmp_path, None, Listening(said)).train.images.shape == (7, 1, 32, 32)
    assert "2 sizes are resized to 32x32" in said[0]
    assert _read(tmp_path, (3, 10, 20)).train.images.shape == (7, 1, 10, 20)


def test_large_images_are_resized_unless_asked_for(tmp_path: Path) -> None:
    for name in ("a", "b"):
        _save(tmp_path / name / "x.png", 9, (300, 290))
    said: list[str] = []

    assert read_folder(tmp_path, None, Listening(said)).train.images.shape == (2, 1, 32, 32)
    assert said[0].startswith("images of 300x290 pixels are resized to 32x32; ")
    assert _read(tmp_path, (1, 300, 300)).train.images.shape == (2, 1, 300, 300)


def test_more_than_memory_holds_is_refused(tmp_path: Path) -> None:
    _two_classes(tmp_path)
    with pytest.raises(UsageError, match=r"6 images of 3000000x2000000 pixels take 36,000\.0 GB, more than there is"):
        _read(tmp_path, (1, 2_000_000, 3_000_000))


def test_every_mode_becomes_colour_beside_colour(tmp_path: Path) -> None:
    red = (255, 0, 0)
    _save(tmp_path / "a" / "rgb.png", red, mode="RGB")
    _save(tmp_path / "a" / "rgba.png", (*red, 255), mode="RGBA")
    _save(tmp_path / "a" / "cmyk.tiff", (0, 255, 255, 0), mode="CMYK")
    Image.new("RGB", (8, 6), red).quantize(4).save(tmp_path / "a" / "palette.png")
    _save(tmp_path / "b" / "grey.png", 100, mode="L")
    _save(tmp_path / "b" / "bits.png", 1, mode="1")
    raw = _read(tmp_path)
    assert raw.train.images.shape[1] == 3
    colours = [tuple(image[:, 0, 0].tolist()) for image in raw.train.images]
    assert colours == [red, red, red, red, (255, 255, 255), (100, 100, 100)]


def test_sixteen_bit_grey_is_scaled_not_cut_off(tmp_path: Path) -> None:
    for name, value in (("a", 0x8000), ("b", 0xFFFF)):
        (tmp_path / name).mkdir()
        Image.fromarray(np.full((4, 4), value, np.uint16)).save(tmp_path / name / "x.png")
    assert _read(tmp_path).train.images.flatten(1).float().mean(1).tolist() == [128, 255]


@pytest.mark.parametrize(("values", "expected"), [((200, 7), [200, 7]), ((0x8000, 200), [128, 0])])
def test_thirty_two_bits_may_hold_eight_or_sixteen(
    tmp_path: Path, values: tuple[int, int], expected: list[int]
) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        Image.fromarray(np.array([values], np.int32)).save(tmp_path / name / "x.tiff")
    assert _read(tmp_path).train.images[0].flatten().tolist() == expected


def test_dark_images_of_sixteen_bits_stay_dark(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        Image.fromarray(np.full((4, 4), 200, np.uint16)).save(tmp_path / name / "x.png")
    assert not _read(tmp_path).train.images.any()


def test_a_shrunken_jpeg_looks_like_the_original(tmp_path: Path) -> None:
    ramp = np.tile(np.linspace(0, 255, 200, dtype=np.uint8), (200, 1))
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        Image.fromarray(ramp).save(tmp_path / name / "x.jpg", quality=95)
    image = _read(tmp_path, (1, 20, 20)).train.images[0, 0].float()
    expected = torch.from_numpy(ramp).float().view(20, 10, 20, 10).mean((1, 3))
    assert float((image - expected).abs().max()) < 6


def test_notes_and_hidden_files_are_passed_over(tmp_path: Path) -> None:
    _two_classes(tmp_path)
    (tmp_path / "cat" / "labels.csv").write_text("a,b")
    (tmp_path / "cat" / ".DS_Store").write_bytes(b"\0")
    (tmp_path / ".git").mkdir()
    for copies in (".ipynb_checkpoints", "__MACOSX", "deep/.thumbnails/small"):
        _save(tmp_path / "cat" / copies / "0.png")
    assert len(_read(tmp_path).train) == 6


def test_photographs_for_printers_and_moving_pictures_are_read(tmp_path: Path) -> None:
    for name in ("a", "b"):
        _save(tmp_path / name / "cmyk.jpg", (0, 255, 255, 0), mode="CMYK")
        frames = [Image.new("RGB", (8, 6), colour) for colour in ((255, 0, 0), (0, 0, 255))]
        for kind in ("gif", "webp", "png"):
            frames[0].save(tmp_path / name / f"moving.{kind}", save_all=True, append_images=frames[1:])
        palette = Image.new("RGBA", (8, 6), (255, 0, 0, 255)).quantize(2)
        palette.save(tmp_path / name / "transparent.gif", transparency=1)
    images = _read(tmp_path).train.images
    assert images.shape == (10, 3, 6, 8)
    assert (images[:, 0] > 200).all() and (images[:, 1:] < 60).all()  # red: the first frame counts


def test_what_is_no_file_is_passed_over(tmp_path: Path) -> None:
    _two_classes(tmp_path)
    (tmp_path / "cat" / "nowhere.txt").symlink_to(tmp_path / "gone.txt")
    os.mkfifo(tmp_path / "cat" / "pipe.png")
    assert len(_read(tmp_path).train) == 6


def test_links_are_followed(tmp_path: Path) -> None:
    _two_classes(tmp_path / "real")
    (tmp_path / "linked" / "dog").mkdir(parents=True)
    (tmp_path / "linked" / "cat").symlink_to(tmp_path / "real" / "cat")
    (tmp_path / "linked" / "dog" / "more").symlink_to(tmp_path / "real" / "dog")
    (tmp_path / "linked" / "dog" / "one.png").symlink_to(tmp_path / "real" / "dog" / "2.png")
    raw = _read(tmp_path / "linked")
    assert raw.train.images[:, 0, 0, 0].tolist() == [0, 10, 20, 0, 10, 20, 20]
    assert raw.files is not None and raw.files[3] == "dog/more/0.png"


@pytest.mark.parametrize("place", ["cat/a.png", "cat/deep/a.png", "bird", "cat/deep/more"])
def test_a_link_that_leads_nowhere_is_refused_by_name(tmp_path: Path, place: str) -> None:
    _two_classes(tmp_path)
    (tmp_path / "cat" / "deep").mkdir()
    (tmp_path / place).symlink_to("gone")
    with pytest.raises(UsageError, match=rf"{tmp_path / place} is a link to gone, which is not there") as caught:
        _read(tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("target", ["", "cat", "cat/deep"])
def test_links_in_a_circle_are_refused(tmp_path: Path, target: str) -> None:
    _two_classes(tmp_path)
    (tmp_path / "cat" / "deep").mkdir()
    (tmp_path / "cat" / "deep" / "round").symlink_to(tmp_path / target)
    with pytest.raises(UsageError, match=r"deep/round.* is a link to a folder that it lies in"):
        _read(tmp_path)


def _bomb() -> bytes:
    """Return a PNG of a few bytes whose header announces 40,000 x 40,000 pixels."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", 40_000, 40_000, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")


def _medium_bomb() -> bytes:
    image = io.BytesIO()
    Image.new("1", (9_000, 9_000)).save(image, "PNG")
    return image.getvalue()


def _whole() -> bytes:
    image = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 40), dtype=np.uint8)).save(image, "PNG")
    return image.getvalue()


def _truncated() -> bytes:
    return _whole()[:900]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"this is no image", "not an image"),
        (b"", "not an image"),
        (_truncated(), "cannot read image"),
        (_bomb(), "too many pixels"),
        (_medium_bomb(), "9000x9000 pixels"),
    ],
)
def test_unreadable_images_are_refused_by_name(tmp_path: Path, content: bytes, reason: str) -> None:
    _two_classes(tmp_path)
    (tmp_path / "dog" / "odd.png").write_bytes(content)
    with pytest.raises(UsageError, match=reason) as caught:
        _read(tmp_path)
    assert str(tmp_path / "dog" / "odd.png") in str(caught.value) and "\n" not in str(caught.value)


def test_all_unreadable_images_are_told_at_once(tmp_path: Path) -> None:
    _two_classes(tmp_path)
    for number in range(7):
        (tmp_path / "cat" / f"odd{number}.png").write_bytes(b"")
    with pytest.raises(UsageError, match=r"^7 of \d+ images cannot be read: .*/odd0.png: not an image; ") as caught:
        _read(tmp_path)
    assert "odd4.png" in str(caught.value) and str(caught.value).endswith("; and 2 more")
    for number in range(7):
        (tmp_path / "cat" / f"odd{number}.png").write_bytes(_truncated() if number < 2 else _whole())
    with pytest.raises(UsageError, match=r"^2 of .*odd0.png: .*; .*odd1.png: "):
        _read(tmp_path)


def test_floating_point_images_are_refused_by_name(tmp_path: Path) -> None:
    _two_classes(tmp_path)
    Image.new("F", (8, 6)).save(tmp_path / "dog" / "float.tiff")
    with pytest.raises(UsageError, match=r"float\.tiff holds floating-point"):
        _read(tmp_path)


def test_empty_and_odd_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="holds no class folders"):
        _read(tmp_path)
    _save(tmp_path / "cat" / "a.png")
    with pytest.raises(UsageError, match="holds one class, 'cat'"):
        _read(tmp_path)
    (tmp_path / "dog").mkdir()
    with pytest.raises(UsageError, match=r"dog holds no images"):
        _read(tmp_path)


def test_a_class_of_the_test_part_alone_is_refused(tmp_path: Path) -> None:
    _two_classes(tmp_path / "train")
    _save(tmp_path / "test" / "bird" / "x.png")
    with pytest.raises(UsageError, match="bird is a class that the training part does not have"):
        _read(tmp_path)


def test_a_test_part_may_split_the_accents_of_its_names(tmp_path: Path) -> None:
    for folder in ("train/M\u00fcll", "train/a", "test/Mu\u0308ll"):
        _save(tmp_path / folder / "x.png")
    raw = _read(tmp_path)
    assert raw.test is not None and [raw.classes[label] for label in raw.test.labels.tolist()] == ["M\u00fcll"]
    _save(tmp_path / "test" / "M\u00fcll" / "y.png")
    test = _read(tmp_path).test
    assert test is not None and len(test) == 2  # of a class that is there in both spellings no image is lost


def test_a_class_may_be_called_train(tmp_path: Path) -> None:
    for name in ("car", "train"):
        _save(tmp_path / name / "a.png")
    raw = _read(tmp_path)
    assert raw.classes == ("car", "train") and raw.test is None


def test_parts_without_classes_are_no_classes(tmp_path: Path) -> None:
    for name in ("train", "test"):
        _save(tmp_path / name / "a.png")
    with pytest.raises(UsageError, match="train holds no class folders"):
        _read(tmp_path)


def test_an_empty_test_part_is_refused(tmp_path: Path) -> None:
    _two_classes(tmp_path / "train")
    (tmp_path / "test" / "cat").mkdir(parents=True)
    with pytest.raises(UsageError, match="test holds no images; expected test/<class>/"):
        _read(tmp_path)


def test_a_test_part_without_classes_is_refused(tmp_path: Path) -> None:
    _two_classes(tmp_path / "train")
    _save(tmp_path / "test" / "1.png")
    with pytest.raises(
        UsageError, match="test holds no images in class folders, only loose ones; expected test/<class"
    ):
        _read(tmp_path)
