"""Image folders: `train/<class>/` and `test/<class>/`, or just `<class>/`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import torch
from torch import Tensor

from safedl.data.decode import read_images
from safedl.data.imageset import ImageSet, Raw
from safedl.data.parts import MEASURING, TRAINING, folder_part
from safedl.errors import UsageError
from safedl.progress import Progress
from safedl.text import composed

SIDECARS = {".csv", ".txt", ".json", ".md", ".xml", ".yaml", ".yml", ".html", ".db", ".ini"}
"""Files that often lie beside images; hidden files and folders are passed over too."""
IMAGES = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm"}
"""What most images end with, to tell whether a folder holds any."""


def read_folder(folder: Path, shape: tuple[int, int, int] | None, progress: Progress) -> Raw:
    """Return the images below `folder`; the names of its subfolders are the classes, numbers in numeric order.

    Every file must be an image, notes (`.csv`, `.txt` ...) and what is hidden or lies in a hidden folder apart; links
    are followed. Parts may have other names, as `Training` and `val` (`safedl.data.parts`); of two that measure the
    first counts.
    For `shape` see `read_images`. Raises `UsageError` naming the folder or file that cannot be used.
    """
    train_root, test_root = _roots(folder, progress)
    classes = _classes(train_root)
    if not classes:
        raise UsageError(f"{train_root} holds no class folders; expected train/<class>/ and test/<class>/, or <class>/")
    train = {name: _files(train_root / name, progress) for name in classes}
    for name, files in train.items():
        if not files:
            raise UsageError(f"class folder {train_root / name} holds no images")
    if len(classes) < 2:
        raise UsageError(f"{train_root} holds one class, '{classes[0]}'; a classifier needs two or more")
    test = _test_files(test_root, classes, progress) if test_root else {}
    files = [file for part in (train, test) for name in classes for file in part.get(name, ())]
    images = read_images(files, shape, progress)
    labels = torch.cat([_labels(classes, train), _labels(classes, test)])
    count = sum(map(len, train.values()))
    first = ImageSet(images[:count], labels[:count])
    second = ImageSet(images[count:], labels[count:]) if test_root else None
    return Raw(tuple(classes), first, second, tuple(str(file.relative_to(folder)) for file in files[:count]))


def _test_files(root: Path, classes: list[str], progress: Progress) -> dict[str, list[Path]]:
    known = {composed(name): name for name in classes}
    unknown = [name for name in _classes(root) if composed(name) not in known]
    if unknown:
        raise UsageError(f"{root / unknown[0]} is a class that the training part does not have")
    found: dict[str, list[Path]] = {}
    for name in _classes(root):  # two may be one class, as where a part was put together from two machines
        found.setdefault(known[composed(name)], []).extend(_files(root / name, progress))
    if not any(found.values()):
        where = " in class folders, only loose ones" if not found and holds_images(root) else ""
        raise UsageError(f"{root} holds no images{where}; expected {root.name}/<class>/, as in the training part")
    return found


def _roots(folder: Path, progress: Progress) -> tuple[Path, Path | None]:
    """Return the folders that hold the classes of the training part and of the part that measures, if there is one.

    A folder called `train` without folders of its own, beside others that are no parts, is a class of that name.
    """
    names = _classes(folder)
    parts = {name: part for name in names if (part := folder_part(name))}
    others = [name for name in names if name not in parts]
    training = [name for name, part in parts.items() if part == TRAINING and (_classes(folder / name) or not others)]
    if not training:
        if parts and not others:
            raise UsageError(f"{folder} holds no part to train on, only {', '.join(parts)}; name one of them train")
        return folder, None
    if len(training) > 1:
        raise UsageError(f"{folder} holds two parts to train on, {' and '.join(training)}; leave one of them")
    if mixed := next((name for name in others if holds_images(folder / name)), None):
        raise UsageError(
            f"{folder} holds images of classes ({mixed}) beside the part {training[0]}; move them below a part, or the "
            "part away"
        )
    measuring = [name for kind in MEASURING for name, part in parts.items() if part == kind]
    if passed := [*measuring[1:], *others]:
        progress.log(f"passed over in {folder}: {', '.join(passed)}")
    return folder / training[0], folder / measuring[0] if measuring else None


def holds_images(folder: Path) -> bool:
    """Return whether a file below `folder` looks like an image by its name."""
    return any(path.suffix.lower() in IMAGES for path in _walk(folder, ()))


def _classes(root: Path) -> list[str]:
    paths = [path for path in root.iterdir() if not path.name.startswith((".", "__"))]
    for path in paths:
        _check_link(path)
    return in_order(path.name for path in paths if path.is_dir())


def in_order(names: Iterable[str]) -> list[str]:
    """Return the names of classes as a folder numbers them: sorted, numbers by their value."""
    found = list(names)
    numbers = all(name.isdecimal() for name in found)
    return sorted(found, key=lambda name: (int(name) if numbers else 0, name))


def _files(folder: Path, progress: Progress) -> list[Path]:
    files = sorted(_walk(folder, ()))
    images = [p for p in files if p.suffix.lower() not in SIDECARS]
    if passed := len(files) - len(images):
        what = ("one file", "is no image") if passed == 1 else (f"{passed:,} files", "are no images")
        progress.log(f"passed over {what[0]} in {folder} that {what[1]}")
    return images


def _walk(folder: Path, above: tuple[tuple[int, int], ...]) -> Iterator[Path]:
    """Yield the files below `folder` that are not hidden; links are followed. `above`: the folders that led here."""
    try:
        status = folder.stat()
        if (status.st_dev, status.st_ino) in above:
            raise UsageError(f"{folder} is a link to a folder that it lies in, or leads to one; remove it")
        paths = list(folder.iterdir())
    except OSError as error:
        raise UsageError(f"cannot read {folder}: {error.strerror}") from None
    for path in paths:
        if path.name.startswith(".") or path.name == "__MACOSX":  # the latter is what macOS adds to an archive
            continue
        if path.is_dir():
            yield from _walk(path, (*above, (status.st_dev, status.st_ino)))
        elif path.is_file():
            yield path
        else:
            _check_link(path)


def _check_link(path: Path) -> None:
    """Raise `UsageError` for a link that leads nowhere, save to a file that is no image."""
    if path.is_symlink() and not path.exists() and path.suffix.lower() not in SIDECARS:
        raise UsageError(
            f"{path} is a link to {path.readlink()}, which is not there; fetch it, as by dvc pull or git annex get, "
            "or remove the link"
        )


def _labels(classes: list[str], files: dict[str, list[Path]]) -> Tensor:
    counts = torch.tensor([len(files.get(name, ())) for name in classes])
    return torch.repeat_interleave(torch.arange(len(classes)), counts)
