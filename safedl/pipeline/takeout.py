"""What a run leaves to take home: its training data without what was flagged, dropped or relabelled."""

from __future__ import annotations

import csv
import io
import shutil
import unicodedata
import uuid
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path, PurePath
from typing import Any

import numpy as np
import torch
import yaml
from PIL import Image
from torch import Tensor

from safedl import catalog
from safedl.attacks.contract import Poisoning
from safedl.data.folder import in_order
from safedl.data.imageset import Dataset, ImageSet
from safedl.errors import NotFoundError, UsageError
from safedl.pipeline.driver import Request, open_lab
from safedl.pipeline.lab import Lab
from safedl.pipeline.picture import SCORES, trigger_arrays
from safedl.pipeline.poison import draw
from safedl.plan import Stage
from safedl.progress import Progress
from safedl.review import Changes, final_changes, read_decisions, read_suspects
from safedl.text import composed
from safedl.workspace import Workspace

COLUMNS = ("index", "file", "given_label", "given_class", "action", "new_label", "new_class")
"""Of the list of samples: labels are indices of classes, which may have other numbers for names; what is new is empty
for a sample that is left out.

A detector's list has `score` too.
"""
LONGEST_NAME = 100
"""Bytes of the name of a class's folder, or of an image's file without its ending: file systems take 255."""


@dataclass(frozen=True)
class Run:
    """A completed run, and the lab in which it can be repeated. `parents`: the results that it rests on, nearest first.

    `document` is its `result.json`.
    """

    workspace: Workspace
    uid: str
    stage: Stage
    lab: Lab
    document: Mapping[str, Any]
    parents: tuple[Mapping[str, Any], ...]

    @property
    def folder(self) -> Path:
        """Where its files lie."""
        return self.workspace.run_folder(self.uid)


@dataclass(frozen=True)
class Data:
    """A run's training data: `train` before and `kept` after the `changes`, `index` int64 [M] of the latter in it.

    `files` are the images' paths, where each is a file of its own; `test` is empty where there is no test part;
    `notes` are sentences on what this data is; `scores`: float [N], what a detector gave each sample of `train`.
    """

    train: ImageSet
    kept: ImageSet
    index: Tensor
    changes: Changes
    test: ImageSet
    classes: tuple[str, ...]
    files: tuple[str, ...] | None
    notes: tuple[str, ...] = ()
    scores: tuple[float, ...] | None = None


def open_run(workspace: Workspace, uid: str, request: Request, progress: Progress) -> Run:
    """Return a completed run; `request` is what its experiment was started with.

    Raises `NotFoundError` if its files are not there.
    """
    try:
        lab, _workers = open_lab(workspace, request, request.experiment or "")
    except UsageError:  # the run's device is not here; what is exported hardly depends on it
        lab, _workers = open_lab(workspace, replace(request, device="auto"), request.experiment or "")
    torch.set_num_threads(lab.threads)
    config = read_config(workspace, uid)
    stage = Stage(
        id=config["stage"], kind=config["kind"], seed=config["seed"], category=config.get("category"),
        attack=config.get("attack"), defense=config.get("defense"), chain=config["params"],
    )  # fmt: skip
    if request.scan:
        lab = lab.paced(progress)
    document, *parents = _lineage(workspace, uid)
    return Run(workspace, uid, stage, lab, document, tuple(parents))


def read_config(workspace: Workspace, uid: str) -> dict[str, Any]:
    """Return a run's `config.yaml`. Raises `NotFoundError` if it cannot be read."""
    path = workspace.run_folder(uid) / "config.yaml"
    try:
        config: dict[str, Any] = yaml.safe_load(path.read_text())
    except (OSError, yaml.YAMLError) as error:
        raise NotFoundError(f"{path} cannot be read: {error}") from error
    return config


def _lineage(workspace: Workspace, uid: str) -> Iterator[Mapping[str, Any]]:
    """Yield the results of a run, its parent, and so on."""
    following: str | None = uid
    while following:
        document = workspace.result(following)
        if document is None:
            raise NotFoundError(f"run {following} has no result in {workspace.run_folder(following)}")
        yield {**document, "uid": following}
        following = read_config(workspace, following).get("parent")


# --- data


def read_data(run: Run, progress: Progress) -> Data:
    """Return the training data of a run as it should be used from now on, and its unchanged test part.

    A scan: all suspects in their order, without those dropped, with new labels. A detector: the attacked training set
    without what it flagged. Other runs: the training set as it was attacked. Raises `UsageError` if the data that
    the profile names is not what the run saw.
    """
    dataset = run.lab.dataset(run.stage.seed, progress)
    _check_fingerprint(run, dataset)
    if run.stage.kind == "scan":
        suspects, decisions = read_suspects(run.folder), read_decisions(run.workspace.results, run.uid)
        changes = final_changes(suspects, decisions)
        return change(dataset.train, dataset.files, changes, dataset)
    train, trusted = dataset.train, len(dataset.trusted)
    notes = [f"the {trusted} trusted images are not part of it"] if trusted else []
    if run.stage.attack is not None and run.stage.category != "evasion":
        train = _poisoning(run, dataset, progress).data
    train = ImageSet(train.images, train.labels, dataset.train.sources)
    kept_file = run.folder / "files" / "kept_indices.npy"
    dropped: frozenset[int] = frozenset()
    if kept_file.is_file():
        dropped = frozenset(range(len(train))) - frozenset(np.load(kept_file).tolist())
    elif run.stage.defense is not None:
        came = "it is clean: the attack comes at test time" if run.stage.category == "evasion" else "as it was attacked"
        notes.insert(0, f"{run.stage.defense} removes no samples; the training set is exported whole, {came}")
    data = change(train, dataset.files, Changes(dropped, {}), dataset, tuple(notes))
    return replace(data, scores=_scores(run.folder / "files" / SCORES))


def _scores(path: Path) -> tuple[float, ...] | None:
    """Return what a detector gave each sample; None where no detector ran, or an older version kept no scores."""
    if not path.is_file():
        return None
    with np.load(path, allow_pickle=False) as kept:
        return tuple(kept["scores"].tolist())


def change(
    train: ImageSet, files: tuple[str, ...] | None, changes: Changes, dataset: Dataset, notes: tuple[str, ...] = ()
) -> Data:
    """Return `train` without the dropped samples and with the new labels. Raises `UsageError` for impossible changes.

    Test part and classes are those of `dataset`. Every class must keep a sample: without, its number has no meaning.
    """
    count, classes = len(train), dataset.classes
    if outside := sorted(i for i in changes.dropped | changes.relabelled.keys() if not 0 <= i < count):
        raise UsageError(f"a decision is about sample {outside[0]}, but the data has {count}, from 0 on")
    if unknown := sorted(c for c in changes.relabelled.values() if not 0 <= c < len(classes)):
        raise UsageError(f"a decision gives class {unknown[0]}, but there are {len(classes)}, from 0 on")
    labels = train.labels.clone()
    for index, label in changes.relabelled.items():
        labels[index] = label
    keep = torch.ones(count, dtype=torch.bool)
    keep[torch.tensor(sorted(changes.dropped), dtype=torch.int64)] = False
    kept = train.with_labels(labels).select(keep)
    return Data(train, kept, keep.nonzero().flatten(), changes, dataset.test, classes, files, notes)


def summary(data: Data) -> str:
    """Return in one line how much of the training data is left."""
    moved = sum(int(data.train.labels[index]) != label for index, label in data.changes.relabelled.items())
    return (
        f"{len(data.kept)} of {len(data.train)} training images: {len(data.changes.dropped)} left out, "
        f"{moved} relabelled"
    )


def _check_fingerprint(run: Run, dataset: Dataset) -> None:
    known = next((d["fingerprint"] for d in (run.document, *run.parents) if d.get("fingerprint")), None)
    if known is not None and known != dataset.fingerprint:
        raise UsageError(
            f"data set '{dataset.name}' is not what run {run.uid} saw: it has changed since. "
            "Bring the old data back, or run the profile again"
        )


def _poisoning(run: Run, dataset: Dataset, progress: Progress) -> Poisoning:
    """Return the poison of the run's attack, from the cache or drawn again, and make sure that it is the same."""
    stage = run.stage
    assert stage.attack is not None
    bench = run.lab.bench(stage.seed, run.lab.devices[0], progress, run.uid)
    clean = bench.fit(dataset.train, phase="clean model") if catalog.attack(stage.attack).needs_clean_model else None
    poisoning = draw(stage.attack, stage.own_params("attack"), dataset, bench, clean)
    attack = next(d for d in (run.document, *run.parents) if d["kind"] == "attack")
    kept = run.workspace.run_folder(attack["uid"]) / "files" / "poisoning.npz"
    if not kept.is_file():
        raise NotFoundError(f"the attack's run has lost its file {kept}, which tells what was poisoned")
    with np.load(kept, allow_pickle=False) as record:
        now = {
            "poisoned_indices": poisoning.mask.nonzero().flatten().numpy(),
            "labels": poisoning.data.labels.numpy(),
            **trigger_arrays(poisoning.trigger),
        }
        if not all(name in record and np.array_equal(record[name], value) for name, value in now.items()):
            raise UsageError(
                f"the poison of run {attack['uid']} is no longer in the cache, and cannot be drawn again as it was "
                "with this version or on this machine; run the profile again"
            )
    return poisoning


# --- files


def write_data(path: Path, data: Data, progress: Progress) -> tuple[str, ...]:
    """Write the data as an `.npz` file or else an image folder, in one step; return notes on what a reader will see.

    Raises `UsageError` if a class would be left without a training image, or cannot name a folder.
    """
    counts = torch.bincount(data.kept.labels, minlength=len(data.classes))
    if int(counts.min()) == 0:
        name = data.classes[int(counts.argmin())]
        raise UsageError(
            f"no sample of class '{name}' would be left, and a data set needs some of each; --indices alone lists "
            "what is left out, and decisions about a scan's suspects can keep some"
        )
    if path.suffix.lower() == ".npz":
        with aside(path) as temporary, temporary.open("wb") as file:
            np.savez_compressed(file, **_arrays(data))
        return ()
    names = folder_names(data.classes)
    with aside(path) as temporary:
        files = file_names(data.index.tolist(), data.kept.labels.tolist(), data.files)
        _write_images(temporary / "train", data.kept, files, names, progress)
        if len(data.test):
            files = file_names(range(len(data.test)), data.test.labels.tolist(), None)
            _write_images(temporary / "test", data.test, files, names, progress)
    renamed = [f"'{old}' is '{new}'" for old, new in zip(data.classes, names, strict=True) if old != new]
    notes = [f"class names as folders: {', '.join(renamed)}"] if renamed else []
    if list(names) != in_order(names):
        notes.append("classes of a folder are numbered by their names, unlike here; an .npz file keeps the numbers")
    if data.kept.sources is not None:
        notes.append("who contributed each image (sources) is kept by an .npz file alone")
    return tuple(notes)


def write_indices(path: Path, data: Data) -> None:
    """Write one line for every sample of the training data, in its order: see `COLUMNS`."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow((*COLUMNS, "score") if data.scores else COLUMNS)
    for index, given in enumerate(data.train.labels.tolist()):
        file = data.files[index] if data.files else ""
        new = None if index in data.changes.dropped else data.changes.relabelled.get(index, given)
        action = "dropped" if new is None else "kept" if new == given else "relabelled"
        changed = ("", "") if new is None else (new, data.classes[new])
        score = (f"{data.scores[index]:.9g}",) if data.scores else ()
        table.writerow((index, file, given, data.classes[given], action, *changed, *score))
    with aside(path) as temporary:
        temporary.write_text(text.getvalue(), encoding="utf-8", errors="surrogateescape")  # names as the disk has them


@contextmanager
def aside(path: Path) -> Iterator[Path]:
    """Yield a path beside `path` to write a file or folder at, which is moved into place at the end, or removed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{uuid.uuid4().hex}{path.suffix}")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        if temporary.is_dir():
            shutil.rmtree(temporary)
        temporary.unlink(missing_ok=True)


def folder_names(classes: Sequence[str]) -> tuple[str, ...]:
    """Return harmless names of folders for the classes, which image folders can be read back by.

    Raises `UsageError` for two classes that would share one, on file systems that ignore case too.
    """
    names = tuple(map(_harmless, classes))
    seen: dict[str, str] = {}
    for old, new in zip(classes, names, strict=True):
        if not new:
            raise UsageError(f"class '{old}' cannot name a folder; export to an .npz file instead")
        if new.lower() in seen:
            raise UsageError(
                f"classes '{seen[new.lower()]}' and '{old}' would both be the folder '{new}'; "
                "export to an .npz file instead"
            )
        seen[new.lower()] = old
    return names


def file_names(numbers: Sequence[int], labels: Sequence[int], files: Sequence[str] | None) -> list[str]:
    """Return a name without ending for each image: as its file was called, or the image's number in the data.

    What would have the name of another image of its class, on file systems that ignore case too, has its number added.
    """
    width = len(str(max(numbers)))
    plain = [f"{number:0{width}d}" for number in numbers]
    if files is None:
        return plain
    stems = [_harmless(PurePath(files[number]).stem) for number in numbers]
    count = Counter((label, stem.lower()) for label, stem in zip(labels, stems, strict=True))
    names = [
        stem if stem and count[label, stem.lower()] == 1 else f"{stem}_{number}".lstrip("_")
        for label, stem, number in zip(labels, stems, plain, strict=True)
    ]
    twins = Counter((label, name.lower()) for label, name in zip(labels, names, strict=True))
    spoilt = {label for (label, _), times in twins.items() if times > 1}  # an added number made it another's name
    return [number if label in spoilt else name for label, name, number in zip(labels, names, plain, strict=True)]


def _harmless(name: str) -> str:
    """Return a name without what a file system or a reader of folders could take amiss; it may be left empty."""
    kept = "".join(c if c in " .+()-" or unicodedata.category(c)[0] in "LMN" else "_" for c in composed(name))
    kept = kept.encode()[:LONGEST_NAME].decode(errors="ignore")
    return kept.lstrip("._ ").rstrip(". ")


def _arrays(data: Data) -> dict[str, Any]:
    """Return the arrays of an .npz file, as Safe-DL reads them back."""
    arrays = {"x_train": _pixels(data.kept.images), "y_train": data.kept.labels.numpy()}
    if len(data.test):
        arrays |= {"x_test": _pixels(data.test.images), "y_test": data.test.labels.numpy()}
    if data.kept.sources is not None:
        arrays["sources"] = data.kept.sources.numpy()
    return {**arrays, "classes": np.array(data.classes)}


def _pixels(images: Tensor) -> np.ndarray:
    """Return uint8 [N, H, W] of grey images, [N, H, W, C] of others."""
    return (images.squeeze(1) if images.shape[1] == 1 else images.movedim(1, -1)).contiguous().numpy()


def _write_images(root: Path, data: ImageSet, files: Sequence[str], names: tuple[str, ...], progress: Progress) -> None:
    """Write `<class>/<file>.png`."""
    for label in data.labels.unique().tolist():
        (root / names[label]).mkdir(parents=True)
    labels = data.labels.tolist()
    for done, (pixels, label, name) in enumerate(zip(_pixels(data.images), labels, files, strict=True), start=1):
        Image.fromarray(pixels).save(root / names[label] / f"{name}.png")
        if done % 100 == 0 or done == len(data):
            progress.step(f"write {root.name}", done, len(data))
