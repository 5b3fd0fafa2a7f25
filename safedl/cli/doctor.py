"""`safedl doctor`: what this machine and workspace are like."""

from __future__ import annotations

import os
import shutil
import sqlite3
from typing import Annotated

import typer

from safedl.cli.output import print_json, print_rows
from safedl.workspace import Workspace


def doctor(
    context: typer.Context, json: Annotated[bool, typer.Option("--json", help="Print an object.")] = False
) -> None:
    """Show versions, devices, precision, folders and what is running."""
    import torch

    from safedl.data.builtin import data_folder
    from safedl.pipeline.driver import versions
    from safedl.pipeline.lab import count_cores
    from safedl.training.precision import resolve

    workspace: Workspace = context.obj
    folder = next(p for p in (workspace.root, *workspace.root.parents) if p.is_dir())  # it may not be made yet
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())] if device.type == "cuda" else []
    facts = {
        **versions(),
        "sqlite": sqlite3.sqlite_version,
        "cores": count_cores(),
        "gpus": ", ".join(gpus) or "none",
        "training precision": resolve("auto", device),
        "workspace": str(workspace.root),
        "writable": os.access(folder, os.W_OK),
        "free disk GB": round(shutil.disk_usage(folder).free / 1e9, 1),
        "store": str(workspace.db) if workspace.db.exists() else "none yet",
        "data folder": str(data_folder(None, ())),
        "running": ", ".join(workspace.running()) or "nothing",
    }
    if json:
        print_json(facts)
    else:
        print_rows([{"what": k, "is": str(v)} for k, v in facts.items()])
