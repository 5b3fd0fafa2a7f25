"""The model of a run to take home: as weights with a description, or as a graph that needs none of our code."""

from __future__ import annotations

import importlib.util
import io
import json
import platform
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor

from safedl import __version__, catalog
from safedl.catalog.models import check_params
from safedl.defenses import load_wrap
from safedl.defenses.dp_training import private_ready
from safedl.defenses.guard import Guard
from safedl.errors import NotFoundError, UsageError, in_a_line
from safedl.models.classifier import Classifier
from safedl.pipeline.takeout import Run, aside
from safedl.progress import Progress
from safedl.reports.files import encode_json
from safedl.workspace import MODEL_ENDINGS

GROUP_NORM = "BatchNorm by GroupNorm, as opacus.validators.ModuleValidator.fix does it"
BATCHES = (1, 3, 8)
"""Numbers of images at which a graph is compared with the model that it was made from."""


def read_model(run: Run, progress: Progress) -> Classifier:
    """Return the model that the run ended with, on the CPU and in eval mode; a guard stands before it again.

    Raises `NotFoundError` if the run keeps none, `UsageError` if its weights do not fit the model any more, or the
    user's module is not the one that the run saw.
    """
    path = run.folder / "files" / "model.pt"
    if not path.is_file():
        raise NotFoundError(f"run {run.uid} keeps no model: {path} is not there")
    run.lab.dataset(run.stage.seed, progress)
    _check_code(run, progress)
    settings = run.lab.model_settings.model_copy(update={"weights": None})  # those that the run kept come instead
    model = run.lab.bench(run.stage.seed, torch.device("cpu"), progress, model=settings).build(run.stage.seed)
    if run.stage.defense == "dp_training":
        model = private_ready(model)
    try:
        model.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    except Exception as error:
        raise UsageError(f"{path} does not fit the model of its profile any more: {in_a_line(error)}") from error
    model.eval().requires_grad_(False)
    if run.stage.defense is not None:
        spec = catalog.defense(run.stage.defense)
        if spec.kind == "guard":
            return load_wrap(spec)(model, spec.params.model_validate(run.stage.own_params("defense")))
    return model


def _check_code(run: Run, progress: Progress) -> None:
    now = run.lab.model_code(run.stage.seed)
    known = next((d["model_code"] for d in (run.document, *run.parents) if d.get("model_code")), None)
    name = run.lab.model_settings.own
    if now and known is None:
        progress.log(f"run {run.uid} kept no record of its model's code; it is exported by {name} as it stands now")
    elif now != known:
        raise UsageError(
            f"{name} (or a file that it imports) is not what run {run.uid} saw: it has changed since. "
            "Bring the old code back, or run the profile again"
        )


def describe(run: Run, model: Classifier) -> dict[str, Any]:
    """Return how the model was built, as plain values; `params` are those of the architecture."""
    settings = run.lab.model_settings
    description: dict[str, Any] = {
        "architecture": settings.name,
        "params": dict(settings.params) if settings.own else check_params(settings.name, settings.params).model_dump(),
        "module": Path(settings.own).name if settings.own else None,
        "input": {"shape": list(model.shape), "order": "NCHW", "type": "float32", "range": [0, 1]},
        "classes": list(run.document["class_names"]),
        "mean": model.mean.flatten().tolist(),
        "std": model.std.flatten().tolist(),
        "normalisation": "logits = net((images - mean) / std); the network's weights are named net.*",
        "penultimate_layer": model.penultimate,
        "head": model.head,
        "replaced_layers": GROUP_NORM if run.stage.defense == "dp_training" else None,
        "guard": None,
        "run": run.uid,
        "kind": run.stage.kind,
        "attack": run.stage.attack,
        "defense": run.stage.defense,
        "seed": run.stage.seed,
        "versions": {"safedl": __version__, "torch": torch.__version__, "python": platform.python_version()},
    }
    if isinstance(model, Guard):
        description["guard"] = {"name": run.stage.defense, "params": run.stage.own_params("defense")}
    return description


def files_of(path: Path) -> tuple[Path, ...]:
    """Return what `write_model` writes for `path`: weights bring a description along."""
    return (path, path.with_suffix(".json")) if path.suffix == ".safetensors" else (path,)


def write_model(path: Path, model: Classifier, description: Mapping[str, Any]) -> tuple[str, ...]:
    """Write the model in the format that the file's name ends with, in one step; return notes on what it holds.

    Raises `UsageError` for another ending, a package that is missing, and a model that cannot become a graph.
    """
    check_format(path)
    _WRITERS[path.suffix](path, model, description)
    if isinstance(model, Guard) and path.suffix == ".safetensors":
        return (f"these are the weights behind {description['guard']['name']}; {path.with_suffix('.json')} names it",)
    return ()


def check_format(path: Path) -> None:
    """Raise `UsageError` unless a model can be written to a file of this name here."""
    if path.suffix not in MODEL_ENDINGS:
        raise UsageError(f"--model {path}: the name must end in {', '.join(MODEL_ENDINGS)}")
    missing = [name for name in ("onnx", "onnxscript") if importlib.util.find_spec(name) is None]
    if path.suffix == ".onnx" and missing:
        raise UsageError(
            f"--model {path}: needs {' and '.join(missing)}; install the extra: pip install 'safedl[onnx]'"
        )


def _write_safetensors(path: Path, model: Classifier, description: Mapping[str, Any]) -> None:
    # Copies, because tensors that share memory are refused.
    state = {name: value.detach().cpu().clone().contiguous() for name, value in model.state_dict().items()}
    about = path.with_suffix(".json")
    with aside(about) as beside, aside(path) as temporary:
        # Not by `save_file`, whose files only their owner may read.
        temporary.write_bytes(save(state, metadata={"format": "pt", "safedl": json.dumps(description)}))
        beside.write_text(encode_json({"weights": path.name, **description}))
        about.unlink(missing_ok=True)  # cut short between the two, it would describe other weights than those beside it


def _write_pt2(path: Path, model: Classifier, description: Mapping[str, Any]) -> None:
    program, content = to_graph(model), io.BytesIO()
    # Not to the file at once: where the disk is full, torch's writer ends the process.
    torch.export.save(program, content, extra_files={"safedl.json": json.dumps(description)})
    with aside(path) as temporary:
        temporary.write_bytes(content.getbuffer())


def _write_onnx(path: Path, model: Classifier, description: Mapping[str, Any]) -> None:
    graph = to_graph(model)
    try:
        program = torch.onnx.export(
            graph, input_names=["images"], output_names=["logits"], dynamo=True, verbose=False
        )  # fmt: skip
        assert program is not None
        program.model.metadata_props["safedl"] = json.dumps(description)
        with aside(path) as temporary:
            program.save(temporary, external_data=False)
    except OSError:
        raise
    except Exception as error:
        raise UsageError(f"the model cannot be exported to ONNX: {in_a_line(error)}; try .pt2") from error


_WRITERS: dict[str, Callable[[Path, Classifier, Mapping[str, Any]], None]] = {
    ".safetensors": _write_safetensors,
    ".pt2": _write_pt2,
    ".onnx": _write_onnx,
}


def to_graph(model: Classifier) -> torch.export.ExportedProgram:
    """Return the model as a graph of tensor operations: float32 images [N, C, H, W] in [0, 1], any N, to logits.

    Raises `UsageError` for a guard that is more than tensor operations, a model that cannot be exported, and a graph
    that does not answer as the model does.
    """
    if isinstance(model, Guard) and model.outside_graph:
        raise UsageError(
            f"this model stands behind a guard that cannot become a graph: {model.outside_graph}; "
            "export it as .safetensors, which holds the model without the guard"
        )
    rng = torch.Generator().manual_seed(0)
    trials = [torch.rand(count, *model.shape, generator=rng) for count in BATCHES]
    try:
        program = torch.export.export(
            model, (trials[1],), dynamic_shapes={"images": {0: torch.export.Dim.DYNAMIC}}, strict=False
        )
        graph = program.module()
        with torch.no_grad():
            same = all(_alike(graph(trial), model(trial)) for trial in trials)
    except Exception as error:
        raise UsageError(
            f"torch.export cannot take this model: {in_a_line(error)}; export it as .safetensors"
        ) from error
    if not same:
        raise UsageError("the exported graph answers otherwise than the model; export it as .safetensors")
    return program


def _alike(first: Tensor, second: Tensor) -> bool:
    """Return whether two answers differ by rounding alone, measured by their size: a guard may scale them up."""
    scale = float(second.abs().max())
    return first.shape == second.shape and torch.allclose(first, second, rtol=1e-3, atol=1e-5 * max(scale, 1.0))
