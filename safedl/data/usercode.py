"""Files and modules that a profile names: where they are found, and how a module's function is called."""

from __future__ import annotations

import hashlib
import importlib.util
import inspect
import sys
import threading
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from safedl.errors import UsageError, in_a_line
from safedl.progress import Progress

_LOADING = threading.RLock()
_LOADED: dict[str, tuple[str, ModuleType]] = {}
"""Modules by their name in `sys.modules`, with the digest of the code that they were made of."""


def find(name: str, folders: Sequence[Path], key: str) -> Path:
    """Return the absolute path of the file or folder `name`: absolute, or in the first of `folders` that has it.

    Without folders it is looked for in the current one. Raises `UsageError` naming the profile's `key`.
    """
    path = Path(name).expanduser()
    candidates = [path] if path.is_absolute() else [folder / path for folder in folders or [Path()]]
    for candidate in candidates:
        if candidate.exists():
            return candidate.absolute()
    raise UsageError(
        f"{key}: no such file: {name} (looked in {', '.join(str(c.absolute().parent) for c in candidates)})"
    )


def call(
    path: Path, function: str, arguments: Mapping[str, Any], optional: Mapping[str, Any], progress: Progress
) -> Any:
    """Run the module at `path` and return what its `function(**arguments)` returns.

    Of `optional` it is given what its signature names. The module may import its neighbours.
    Raises `UsageError` with place and first line of the error for anything that goes wrong in it.
    """
    progress.log(f"running {path.name}, which the profile names: {function}()")
    sys.path.insert(0, str(path.parent))
    try:
        module = _load(path)
        if not callable(getattr(module, function, None)):
            raise UsageError(f"{path} defines no function {function}()")
        defined = getattr(module, function)
        return defined(**arguments, **_accepted(defined, optional))
    except (UsageError, KeyboardInterrupt):
        raise
    except BaseException as error:
        raise UsageError(f"{function}() of {path}{_where(error, path)} failed: {in_a_line(error)}") from error
    finally:
        sys.path.remove(str(path.parent))


def _load(path: Path) -> ModuleType:
    """Return the module at `path`, executed anew only if its code has changed.

    Executed for each call, its classes would be others each time: what is pickled in one thread could then not be found
    while another one builds a model.
    """
    name = f"safedl_user_{hashlib.sha256(str(path).encode()).hexdigest()[:12]}"
    with _LOADING:
        state = code_digest(path)
        if name in _LOADED and _LOADED[name][0] == state:
            return _LOADED[name][1]
        spec = importlib.util.spec_from_file_location(name, path)
        if spec is None or spec.loader is None:
            raise UsageError(f"{path} is not a Python module (.py)")
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
        _LOADED[name] = state, module
        return module


def code_digest(path: Path) -> str:
    """Return the sha256 over a module and the modules beside it, which it may import."""
    state = hashlib.sha256()
    for file in sorted({path, *path.parent.glob("*.py")}):
        state.update(f"{file.name if file != path else ''}\0{hashlib.sha256(file.read_bytes()).hexdigest()}\0".encode())
    return state.hexdigest()


def _accepted(function: Any, optional: Mapping[str, Any]) -> dict[str, Any]:
    parameters = inspect.signature(function).parameters
    if any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values()):
        return dict(optional)
    return {name: value for name, value in optional.items() if name in parameters}


def _where(error: BaseException, path: Path) -> str:
    """Return the last line of the user's module that the error passed through."""
    lines = [f.lineno for f in traceback.extract_tb(error.__traceback__) if Path(f.filename) == path]
    return f", line {lines[-1]}," if lines else ""
