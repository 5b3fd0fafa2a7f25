"""`safedl export`: take home the data and the model of a run."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, TextIO

import typer

from safedl.cli.output import data_only, note
from safedl.errors import IncompleteError, NotFoundError, UsageError, cannot_write
from safedl.workspace import LIST_ENDING, Workspace

OTHER_DATA = (".npy", ".zip", ".gz", ".tar", ".parquet", ".csv", ".json", ".h5", ".hdf5", ".pt", ".pth", ".pkl", ".png")
"""Endings that ask for something other than an image folder."""
MENDED = ("defense", "scan")


def export(
    context: typer.Context,
    run: Annotated[str, typer.Argument(help="A run, or an experiment with one that fits; part of the uid will do.")],
    data: Annotated[
        Path | None,
        typer.Option(help="Write its training and test data: an .npz file, or an image folder.", metavar="OUT"),
    ] = None,
    model: Annotated[
        Path | None, typer.Option(help="Write its model: .safetensors, .pt2 or .onnx.", metavar="OUT")
    ] = None,
    indices: Annotated[
        Path | None, typer.Option(help="List its samples, and what is kept, dropped or relabelled.", metavar="FILE.csv")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace files that are there already.")] = False,
) -> None:
    """Take home a run's data, without what was flagged or dropped, and its model."""
    workspace: Workspace = context.obj
    if data is None and model is None and indices is None:
        raise UsageError("nothing to export: name --data OUT, --model OUT or --indices FILE.csv")
    if data is not None and data.suffix.lower() in OTHER_DATA:
        raise UsageError(f"--data {data}: data is written as an .npz file or as a folder of images")
    if indices is not None and indices.suffix != LIST_ENDING:
        raise UsageError(f"--indices {indices}: the name must end in {LIST_ENDING}")
    folder = data if data is not None and data.suffix.lower() != ".npz" else None
    if folder is not None:
        if folder.is_symlink() or folder.is_file() or not folder.name:
            raise UsageError(f"--data {folder}: is no name for a new folder; give one, or that of an .npz file")
        if folder.is_dir() and any(folder.iterdir()):
            raise UsageError(
                f"--data {folder}: is a folder that is not empty; folders are not replaced, name a new one"
            )
    _check_targets([p for p in (data, model, indices) if p is not None], force, folder)
    uid = find_run(workspace, run, data is not None or indices is not None, model is not None)
    _write(workspace, uid, data, model, indices, force)


def _write(
    workspace: Workspace, uid: str, data: Path | None, model: Path | None, indices: Path | None, force: bool
) -> None:
    from safedl.cli.live import Preparation
    from safedl.cli.run import saved_request
    from safedl.pipeline import takeout, takeout_model

    warnings.simplefilter("ignore")  # what exporters say to developers
    if model is not None:
        takeout_model.check_format(model)
        _check_targets(takeout_model.files_of(model), force)
    experiment = takeout.read_config(workspace, uid).get("experiment")
    if not experiment:
        raise NotFoundError(f"run {uid} belongs to no experiment, so its profile is not known")
    request = saved_request(workspace, experiment)
    with data_only() as stdout, Preparation() as progress:
        opened = takeout.open_run(workspace, uid, request, progress)
        if model is not None:  # first, because it is what may be refused
            classifier = takeout_model.read_model(opened, progress)
            with _writing(model):
                notes = takeout_model.write_model(model, classifier, takeout_model.describe(opened, classifier))
            _tell(stdout, takeout_model.files_of(model), notes)
            note(how_to_load(model, classifier.shape))
        if data is None and indices is None:
            return
        found = takeout.read_data(opened, progress)
        _tell(stdout, (), (takeout.summary(found), *found.notes))
        if data is not None:
            with _writing(data):
                notes = takeout.write_data(data, found, progress)
            _tell(stdout, (data,), notes)
        if indices is not None:
            with _writing(indices):
                takeout.write_indices(indices, found)
            _tell(stdout, (indices,))


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise cannot_write(path, error) from error


def _tell(stdout: TextIO, written: Sequence[Path], notes: Sequence[str] = ()) -> None:
    for line in notes:
        note(line)
    for path in written:
        print(path, file=stdout)


def how_to_load(path: Path, shape: tuple[int, int, int]) -> str:
    """Return in one line how an exported model is loaded, and which images (C, H, W) it takes."""
    takes = f"float32 [N, {', '.join(map(str, shape))}] in [0, 1]"
    if path.suffix == ".pt2":
        return f'load: torch.export.load("{path}").module(); takes {takes}, any N, and gives logits'
    if path.suffix == ".onnx":
        return f'load: onnxruntime.InferenceSession("{path}"); "images" takes {takes}, any N, "logits" is the answer'
    about = path.with_suffix(".json")
    return (
        f'load: safetensors.torch.load_file("{path}"); {about} says which network they are weights of; it takes {takes}'
    )


def find_run(workspace: Workspace, name: str, data: bool, model: bool) -> str:
    """Return the uid of the run to export. `name`: a uid or part of one, of a run or of an experiment.

    Of an experiment's runs those that mend something come first. Raises `NotFoundError` if there is none or several,
    `UsageError` for a run without what is asked for, `IncompleteError` for one without a result.
    """
    uid = workspace.find(name)
    if not workspace.experiment_folder(uid).is_dir():
        if workspace.result(uid) is None:
            raise IncompleteError(f"run {uid} has not completed: it has no result")
        if reason := obstacle(workspace, uid, data, model):
            raise UsageError(f"run {uid} {reason}")
        return uid
    names = workspace.stage_names(uid)
    fitting = [r for r in workspace.read_plan(uid)["runs"] if obstacle(workspace, r, data, model) is None]
    mended = [r for r in fitting if (workspace.result(r) or {})["kind"] in MENDED]
    chosen = mended or fitting
    if len(chosen) == 1:
        return str(chosen[0])
    if not chosen:
        raise NotFoundError(f"experiment {uid} has no completed run with what is asked for; see: safedl runs ls")
    listed = ", ".join(f"{r} ({names.get(r, '')})" for r in chosen[:8])
    raise NotFoundError(f"experiment {uid} has several runs to export; name one: {listed}{', ...' * (len(chosen) > 8)}")


def obstacle(workspace: Workspace, uid: str, data: bool, model: bool) -> str | None:
    """Return why a run's data or model cannot be exported, as the rest of a sentence, or None."""
    document = workspace.result(uid)
    if document is None:
        return "has not completed: it has no result"
    if document["kind"] == "bound":
        return "is a bound: it measures, and keeps neither data nor model; export the attack or a defense"
    if model and not (workspace.run_folder(uid) / "files" / "model.pt").is_file():
        return "has no model of its own: it examines or attacks another run's; export that one (see: safedl runs show)"
    return None


def _check_targets(paths: Sequence[Path], force: bool, folder: Path | None = None) -> None:
    """Raise `UsageError` for a target that is taken; `folder` is the one that becomes a folder, others are files."""
    places = [path.absolute() for path in paths]
    if len(set(places)) < len(places) or any(place in other.parents for place in places for other in places):
        raise UsageError("each thing to export needs a place of its own, and none may lie within another")
    for path in paths:
        if path.is_dir() and path != folder:
            raise UsageError(f"{path} is a folder; name a file")
        holder = next(parent for parent in path.absolute().parents if parent.exists())
        if not holder.is_dir():
            raise UsageError(f"{path}: {holder} is a file, no folder")
        if not os.access(holder, os.W_OK | os.X_OK):  # said before the data is made anew, which may take minutes
            raise UsageError(f"{path} cannot be written: permission denied in {holder}")
        if path.is_file() and not force:
            raise UsageError(f"{path} exists already; --force replaces it")
