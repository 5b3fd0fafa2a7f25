"""German traffic signs, read from torchvision's layout: photographs of many sizes."""

from __future__ import annotations

import csv
from pathlib import Path

import torch

from safedl.data.decode import read_images
from safedl.data.download import Archive
from safedl.data.imageset import ImageSet, Raw
from safedl.errors import UsageError
from safedl.progress import Progress

FOLDER = "gtsrb"
_URL = "https://sid.erda.dk/public/archives/daaeac0d7ce1152aea9b61d9f1e19370/"
ARCHIVES = tuple(
    Archive((f"{_URL}{file}",), f"{FOLDER}/{file}", md5)
    for file, md5 in (
        ("GTSRB-Training_fixed.zip", "513f3c79a4c5141765e10e952eaa2478"),
        ("GTSRB_Final_Test_Images.zip", "c7e4e6327067d32654124b0fe9e82185"),
        ("GTSRB_Final_Test_GT.zip", "fe31e9c9270bbcd7b84b7f21a9d9d9e5"),
    )
)

SIGNS = (
    "Speed limit 20 km/h", "Speed limit 30 km/h", "Speed limit 50 km/h", "Speed limit 60 km/h", "Speed limit 70 km/h",
    "Speed limit 80 km/h", "End of speed limit 80 km/h", "Speed limit 100 km/h", "Speed limit 120 km/h", "No passing",
    "No passing for lorries", "Priority at next junction", "Priority road", "Give way", "Stop", "No vehicles",
    "No lorries", "No entry", "General danger", "Curve to the left", "Curve to the right", "Double curve", "Bumpy road",
    "Slippery road", "Road narrows on the right", "Road works", "Traffic signals", "Pedestrians", "Children crossing",
    "Bicycles crossing", "Ice or snow", "Wild animals", "End of all limits", "Turn right ahead", "Turn left ahead",
    "Ahead only", "Straight or right", "Straight or left", "Keep right", "Keep left", "Roundabout",
    "End of no passing", "End of no passing for lorries",
)  # fmt: skip
"""What the signs say, by class; a file `class_names.csv` (ClassId;Name) beside the images comes first."""


def read_gtsrb(root: Path, shape: tuple[int, int, int] | None, progress: Progress) -> Raw:
    """Return the signs below `root`/gtsrb, resized to `shape` (C, H, W), else to 32x32.

    Raises `FileNotFoundError` if they are not there, `UsageError` naming a file that cannot be read.
    """
    base = root / FOLDER
    listing = base / "GT-final_test.csv"
    folders = sorted(p for p in (base / "GTSRB" / "Training").iterdir() if p.is_dir() and p.name.isdecimal())
    train = [(file, int(folder.name)) for folder in folders for file in sorted(folder.glob("*.ppm"))]
    try:
        test = [(base / "GTSRB/Final_Test/Images" / r["Filename"], int(r["ClassId"])) for r in _rows(listing)]
    except (KeyError, ValueError) as error:
        raise UsageError(f"{listing}: expected columns Filename and ClassId ({error})") from None
    images = read_images([file for file, _ in (*train, *test)], shape, progress, resize=True)
    labels = torch.tensor([label for _, label in (*train, *test)])
    if not train or not test or not 0 <= int(labels.min()) <= int(labels.max()) < len(SIGNS):
        raise UsageError(f"{base}: expected training and test images of classes 0 to {len(SIGNS) - 1}")
    count = len(train)
    return Raw(_names(base), ImageSet(images[:count], labels[:count]), ImageSet(images[count:], labels[count:]))


def _rows(file: Path) -> list[dict[str, str]]:
    with file.open(newline="", encoding="utf-8") as text:
        return list(csv.DictReader(text, delimiter=";", skipinitialspace=True))


def _names(base: Path) -> tuple[str, ...]:
    own = base / "class_names.csv"
    if not own.is_file():
        return SIGNS
    names = {row.get("ClassId", ""): row.get("Name", "") for row in _rows(own)}
    return tuple(names.get(str(number)) or sign for number, sign in enumerate(SIGNS))
