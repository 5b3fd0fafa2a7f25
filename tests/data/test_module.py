"""A user's module with get_dataset()."""

from __future__ import annotations

import random
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from safedl.data.decode import is_grey, target_size, to_pixels
from safedl.data.imageset import Raw
from safedl.data.module import read_module
from safedl.data.usercode import call
from safedl.errors import UsageError
from safedl.progress import SILENT, Cancelled, Progress
from tests.conftest import Listening

HEAD = """
import numpy as np, torch
from PIL import Image
from torch.utils.data import Dataset, Subset, TensorDataset
rng = np.random.default_rng(0)
x = rng.integers(0, 256, (6, 4, 5, 3), dtype=np.uint8)
y = np.arange(6) % 2
t = torch.from_numpy(x).permute(0, 3, 1, 2).float() / 255
class Items(Dataset):
    def __init__(self, images):
        self.images, self.classes = images, ["cat", "dog"]
    def __len__(self):
        return len(self.images)
    def __getitem__(self, i):
        return self.images[i], torch.tensor(i % 2)
pictures = [Image.fromarray(image) for image in x]
def get_dataset():
    return """


def _read(tmp_path: Path, returned: str, shape: tuple[int, int, int] | None = None) -> Raw:
    (tmp_path / "user_dataset.py").write_text(HEAD + returned)
    return read_module(tmp_path / "user_dataset.py", shape, SILENT)


@pytest.mark.parametrize(
    "returned",
    [
        "x, y, x[:2], y[:2]",
        "(x, y), (x[:2], y[:2])",
        "[(t, torch.from_numpy(y)), (t[:2], [0, 1])]",
        "{'x_train': x, 'y_train': y, 'x_test': x[:2], 'y_test': y[:2]}",
        "TensorDataset(t, torch.from_numpy(y)), TensorDataset(t[:2], torch.from_numpy(y[:2]))",
        "Items(t), Items(t[:2])",
        "Items(x), Subset(Items(t), [0, 1])",
        "Items(pictures), Items(pictures[:2])",
        "list(zip(x, y)), list(zip(x[:2], y[:2]))",
        "list(zip(t, y.tolist())), list(zip(t[:2], [0, 1]))",
        "list(zip(pictures, y)), list(zip(pictures[:2], y[:2]))",
    ],
)
def test_accepted_forms_give_the_same_data(tmp_path: Path, returned: str) -> None:
    reference = _read(tmp_path, "x, y, x[:2], y[:2]")
    raw = _read(tmp_path, returned)
    assert raw.test is not None and reference.test is not None
    for one, other in ((raw.train, reference.train), (raw.test, reference.test)):
        assert torch.equal(one.images, other.images) and torch.equal(one.labels, other.labels)
    assert raw.classes == (("cat", "dog") if returned.startswith("Items") else ("0", "1"))


@pytest.mark.parametrize("returned", ["x, y", "Items(t)", "(x, y), None", "{'x_train': x, 'y_train': y}"])
def test_one_part_alone_is_left_to_be_split(tmp_path: Path, returned: str) -> None:
    raw = _read(tmp_path, returned)
    assert raw.test is None and len(raw.train) == 6


def test_what_is_drawn_at_random_is_the_same_each_time(tmp_path: Path) -> None:
    states = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()
    (tmp_path / "drawing.py").write_text(
        "import random, numpy as np, torch\n"
        "order = np.random.permutation(40), torch.randperm(40), random.random()\n"  # on import, so once
        "class Items:\n"
        "    def __len__(self):\n"
        "        return 40\n"
        "    def __getitem__(self, i):\n"
        "        return torch.rand(1, 4, 4) * random.random(), int(self.labels[i])\n"
        "def get_dataset():\n"
        "    items = Items()\n"
        "    items.labels = np.random.permutation(40) % 2\n"
        "    return items\n"
    )
    first, second = (read_module(tmp_path / "drawing.py", None, SILENT).train for _ in range(2))
    assert torch.equal(first.images, second.images) and torch.equal(first.labels, second.labels)
    assert torch.equal(torch.get_rng_state(), states[0])
    assert (np.random.get_state()[1].tolist(), random.getstate()) == states[1:]


def test_pictures_of_mixed_sizes_are_resized(tmp_path: Path) -> None:
    returned = "Items([*pictures, Image.new('L', (40, 9))])"
    assert _read(tmp_path, returned).train.images.shape == (7, 3, 32, 32)
    assert _read(tmp_path, returned, (3, 6, 7)).train.images.shape == (7, 3, 6, 7)


@pytest.mark.parametrize("shape", [None, (3, 6, 7)])
@pytest.mark.parametrize(
    "images",
    [
        "[Image.fromarray(x[0]), Image.fromarray(x[1]).resize((300, 20)), Image.fromarray(x[2]).convert('L')]",
        "[Image.fromarray(x[0]).convert('L'), Image.fromarray(x[1]).convert('LA'), Image.fromarray(x[2]).convert('1')]",
        "[Image.fromarray(x[0]).convert('P'), Image.fromarray(x[1, :, :, 0].astype(np.uint16) * 200)]",
        "[Image.fromarray(x[0]).convert('L').resize((260, 260)), Image.fromarray(x[1]).resize((260, 260))]",
        "[Image.fromarray(x[0]).convert('L'), Image.fromarray(x[1]), Image.fromarray(x[2]).resize((9, 9))]",
    ],
)
def test_pictures_are_read_one_by_one_as_they_are_all_at_once(
    tmp_path: Path, images: str, shape: tuple[int, int, int] | None
) -> None:
    found = _read(tmp_path, f"Items({images})", shape).train.images
    names: dict[str, Any] = {}
    exec(HEAD + images, names)
    pictures = names["get_dataset"]()
    size = target_size({p.size for p in pictures}, shape, SILENT)
    grey = all(map(is_grey, pictures))
    assert torch.equal(found, torch.stack([to_pixels(p, grey, size) for p in pictures]))


def test_picture_files_do_not_stay_open(tmp_path: Path) -> None:
    for number in range(40):
        Image.new("RGB", (8, 8 + number % 2)).save(tmp_path / f"{number}.png")
    source = """
import os
from pathlib import Path
from PIL import Image
OPEN = []
class Items:
    classes = ["a", "b"]
    def __len__(self):
        return 40
    def __getitem__(self, i):
        OPEN.append(len(os.listdir("/proc/self/fd")))
        return Image.open(Path(__file__).parent / f"{i}.png"), i % 2
def get_dataset():
    return Items()
def how_many():
    return max(OPEN) - min(OPEN)
"""
    (tmp_path / "lazy.py").write_text(source)
    assert read_module(tmp_path / "lazy.py", None, SILENT).train.images.shape == (40, 3, 32, 32)
    assert call(tmp_path / "lazy.py", "how_many", {}, {}, SILENT) < 5


def test_sources_and_classes_may_be_given(tmp_path: Path) -> None:
    raw = _read(tmp_path, "dict(x_train=x, y_train=y, classes=['a', 'b'], sources=[5, 5, 6, 6, 7, 7])")
    assert raw.classes == ("a", "b")
    assert raw.train.sources is not None and raw.train.sources.tolist() == [0, 0, 1, 1, 2, 2]


def test_sixteen_bit_arrays_are_read_where_their_values_fit(tmp_path: Path) -> None:
    assert torch.equal(_read(tmp_path, "x.astype(np.uint16), y").train.images, _read(tmp_path, "x, y").train.images)
    with pytest.raises(UsageError, match="whole numbers must lie in 0 to 255"):
        _read(tmp_path, "x.astype(np.uint16) * 256, y")


def test_the_path_of_imports_is_left_as_it_was(tmp_path: Path) -> None:
    before = list(sys.path)
    _read(tmp_path, "x, y")
    assert sys.path == before


def test_parts_that_number_their_classes_differently_are_refused(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(HEAD + "Items(t), other\nother = Items(t)\nother.classes = ['dog', 'cat']\n")
    with pytest.raises(UsageError, match="test: class 0 is dog here and cat in the training part"):
        read_module(tmp_path / "mine.py", None, SILENT)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ("{'cat': 0, 'dog': 1}", "{'dog': 1, 'cat': 0}"),
        ("np.array(['cat', 'dog'])", "np.array(['cat', 'dog'])"),
        ("['cat', 'dog']", "['cat', 'dog', 'owl']"),
        ("['cat', 'dog']", "['cat']"),
        ("['cat', 'dog']", "2"),
        ("['cat', 'dog']", "{'cat', 'dog'}"),
    ],
)
def test_parts_that_number_their_classes_alike_may_say_so_differently(tmp_path: Path, ours: str, theirs: str) -> None:
    source = f"one, other\none, other = Items(t), Items(t)\none.classes, other.classes = {ours}, {theirs}\n"
    (tmp_path / "mine.py").write_text(HEAD + source)
    assert read_module(tmp_path / "mine.py", None, SILENT).classes == ("cat", "dog")


def test_running_a_module_is_announced(tmp_path: Path) -> None:
    said: list[str] = []

    (tmp_path / "mine.py").write_text(HEAD + "x, y")
    read_module(tmp_path / "mine.py", None, Listening(said))
    assert said == ["running mine.py, which the profile names: get_dataset()"]


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        ("1 / 0", r"user_dataset\.py, line 18, failed: ZeroDivisionError: division by zero"),
        ("undefined", "NameError: name 'undefined' is not defined"),
        ("3", "returned int for train"),
        ("x, y, x", "returned 3 values"),
        ("Items(t - 0.5)", "leave normalisation out"),
        ("Items([t[0], t[1][:, :2]])", "images of different shapes"),
        ("Items([pictures[0], t[1]])", "some images are Pillow images"),
        ("Items([])", "no images"),
        ("Items([pictures[0].convert('F')])", r"item 0 holds floating-point values; make it an array in \[0, 1\]"),
        ("[3, 4]", "returned int for train"),
        ("Subset(Items(t), [0, 99])", r"train: item 1 is no \(image, label\): IndexError"),
        (
            "Subset([(t[0], 0.6), (t[1], 1)], [0, 1])",
            r"item 0 is no \(image, label\): ValueError: 0.6 is no whole number",
        ),
        ("Subset([1, 2, 3], [0, 1])", r"item 0 is no \(image, label\): TypeError"),
        ("exec('raise BaseException(1)')", "line 18, failed: BaseException: 1"),
        ("exec('exit()')", "line 18, failed: SystemExit"),
        ("exec('raise ValueError(\\'a\\\\nb\\')')", "failed: ValueError: a$"),
        ("x.astype(complex), y", "x_train: complex numbers cannot be used"),
        ("t.to_sparse(), y", "x_train: a sparse tensor cannot be used"),
        ("torch.zeros(6, 3, 4, 5, device='meta'), y", "x_train: cannot be used as numbers: NotImplementedError"),
        ("x, [[1], [2, 3], 4, 5, 6, 7]", "cannot be used: ValueError"),
        ("x, np.array([None] * 6)", "cannot be used as numbers"),
        ("x, y * float('nan')", "labels must be whole numbers"),
        ("dict(x_train=x, y_train=y, classes=5)", "classes must be a list of names"),
        ("dict(x_train=x, y_train=y, sources=[1, 'a', None, 2, 3, 4])", "cannot be used: TypeError"),
        ("type('Items', (), {'__len__': lambda s: 1 / 0, '__getitem__': lambda s, i: 0})()", "ZeroDivisionError"),
        ("type('Items', (), {'__len__': lambda s: -1, '__getitem__': lambda s, i: 0})()", "cannot be used: ValueError"),
    ],
)
def test_unusable_results_are_refused_in_one_line(tmp_path: Path, returned: str, message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        _read(tmp_path, returned)
    assert "user_dataset.py" in str(caught.value) and "\n" not in str(caught.value)


def test_a_cancel_is_no_fault_of_the_module(tmp_path: Path) -> None:
    class Stopped(Progress):
        def step(self, phase: str, done: int, total: int) -> None:
            raise Cancelled("asked")

    (tmp_path / "mine.py").write_text(HEAD + "Items(t)")
    with pytest.raises(Cancelled):
        read_module(tmp_path / "mine.py", None, Stopped())


def test_a_module_without_the_function_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty.py").write_text("x = 1\n")
    with pytest.raises(UsageError, match=r"empty\.py defines no function get_dataset\(\)"):
        read_module(tmp_path / "empty.py", None, SILENT)
