"""The profile of a scan, from what a person names: data, trusted images, a model and its weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from safedl.catalog.datasets import DATASETS
from safedl.catalog.models import MODELS
from safedl.errors import NotFoundError, nearest
from safedl.text import check_unicode

DEFAULT_MODEL = "cnn"


def scan_document(
    data: str,
    *,
    trusted: str | None = None,
    model: str | None = None,
    weights: str | None = None,
    epochs: int | None = None,
    false_alarm_rate: float | None = None,
) -> dict[str, Any]:
    """Return the document of a profile that scans `data`.

    `data`: an image folder, an .npz or .parquet file, a module, or the name of a built-in data set; `model`: a
    built-in architecture or a module. Paths are from the current folder. Raises `NotFoundError` for what is neither,
    `UsageError` for a name that is no text.
    """
    settings = {"trusted": _path(trusted, "--trusted"), "weights": _path(weights, "--weights")}
    document: dict[str, Any] = {
        "name": f"{_stem(data)}-scan",
        "dataset": {"name": data} if data in DATASETS else {"path": _path(data, "--data", DATASETS)},
        "model": _model(model or DEFAULT_MODEL),
        "scan": {key: value for key, value in settings.items() if value is not None},
    }
    if epochs is not None:
        document["training"] = {"epochs": epochs}
    if false_alarm_rate is not None:
        document["scan"]["false_alarm_rate"] = false_alarm_rate
    return document


def _model(name: str) -> dict[str, Any]:
    if name in MODELS:
        return {"name": name}
    path = _path(name, "--model", MODELS)
    return {"name": Path(name).stem, "type": "custom", "path": path}


def _path(name: str | None, option: str, known: Any = ()) -> str | None:
    if name is None:
        return None
    check_unicode(name, f"{option}: ")
    if not Path(name).exists():
        choices = f" and none of {', '.join(known)}" if known else ""
        raise NotFoundError(f"{option}: no such file or folder: {name}{choices}.{nearest(name, known)}")
    return str(Path(name).absolute())


def _stem(data: str) -> str:
    """Return a profile's name after a file or folder; what a name may not hold falls away."""
    stem = "".join(c if c.isalnum() or c in "-_." else "-" for c in Path(data).absolute().stem).strip("-.")
    return stem[:80] or "data"
