"""Modules that a profile names: how they are loaded, and how a function of theirs is called."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import inspect
import sys
import sysconfig
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType
from typing import Any

from safedl.cache import file_digest
from safedl.data.draws import LOCK, seeded
from safedl.errors import UsageError, in_a_line
from safedl.loading import LOADING
from safedl.progress import Progress

_INSTALLED = {"site-packages", "dist-packages"}
"""Folders of packages that are no part of a user's code, even where they lie below it."""


@dataclass(frozen=True)
class _Loaded:
    """A user's module, what it imported from below its folder, and the sha256 of their files as they were loaded."""

    module: ModuleType
    files: dict[Path, str]
    neighbours: dict[str, ModuleType] = field(default_factory=dict)


_LOADED: dict[Path, _Loaded] = {}


def call(
    path: Path, function: str, arguments: Mapping[str, Any], optional: Mapping[str, Any], progress: Progress
) -> Any:
    """Run the module at `path` and return what its `function(**arguments)` returns.

    Of `optional` it is given what its signature names and `arguments` do not. The module may import its neighbours.
    Raises `UsageError` with place and first line of the error for anything that goes wrong in it.
    """
    progress.log(f"running {path.name}, which the profile names: {function}()")
    with _explained(path, f"{function}() of {path}"), importing(path) as before:
        module = _load(path, before).module
        if not callable(getattr(module, function, None)):
            raise UsageError(f"{path} defines no function {function}()")
        defined = getattr(module, function)
        return defined(**{**_accepted(defined, optional), **arguments})


def code_digest(path: Path) -> str:
    """Return the sha256 over a module and the files below its folder that it has imported so far.

    What it imports within a function counts once that function was called. Raises `UsageError` as `call` does.
    """
    with _explained(path, str(path)), importing(path) as before:
        files = _load(path, before).files
    state = hashlib.sha256()
    for file, content in sorted(files.items()):
        name = "" if file == path else file.relative_to(path.parent).as_posix()
        state.update(f"{name}\0{content}\0".encode())
    return state.hexdigest()


@contextmanager
def importing(path: Path) -> Iterator[set[str]]:
    """Let code of the module at `path` import its neighbours; yield the names of modules that are none of them.

    Neighbours of other user modules are put aside, for they may have the same names. Afterwards the neighbours stay
    where they are, so that a function finds again what it imports when it is called.
    """
    folder = str(path.parent)
    with LOCK, LOADING:  # what it imports, stages may be about to load too
        for loaded in _LOADED.values():
            _put_aside(loaded.neighbours)
        before = set(sys.modules)
        if path in _LOADED:
            sys.modules.update(_LOADED[path].neighbours)
        sys.path.insert(0, folder)
        try:
            yield before
        finally:
            with suppress(ValueError):  # the module may have taken it out
                sys.path.remove(folder)
            if path in _LOADED:
                _note_neighbours(path, before)
            else:
                _put_aside(_neighbours(path, before))


def _load(path: Path, before: set[str]) -> _Loaded:
    """Return the module at `path`, executed anew only if its code, or that of a neighbour, has changed.

    Executed for each call, its classes would be others each time: what is pickled in one thread could then not be found
    while another one builds a model.
    """
    if path in _LOADED:
        if all(_file_digest(file) == known for file, known in _LOADED[path].files.items()):
            return _LOADED[path]
        _put_aside(_LOADED.pop(path).neighbours)
    name = f"safedl_user_{hashlib.sha256(str(path).encode()).hexdigest()[:12]}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or not isinstance(spec.loader, SourceFileLoader) or not path.is_file():
        raise UsageError(f"{path} is not a Python module (.py)")
    importlib.invalidate_caches()  # neighbours may have been added just now
    module = importlib.util.module_from_spec(spec)
    source = path.read_bytes()  # read once, so that the digest is that of the code which runs
    sys.modules[name] = module
    with seeded(0):  # what it draws as it is executed must not tell the first call of its function from later ones
        exec(spec.loader.source_to_code(source, str(path)), module.__dict__)
    _LOADED[path] = _Loaded(module, {path: hashlib.sha256(source).hexdigest()})
    _note_neighbours(path, before)
    return _LOADED[path]


def _note_neighbours(path: Path, before: set[str]) -> None:
    """Keep what the module at `path` has imported from below its folder."""
    loaded = _LOADED[path]
    for name, module in _neighbours(path, before).items():
        loaded.neighbours[name] = module
        if file := module.__dict__.get("__file__"):
            loaded.files.setdefault(Path(file), _file_digest(Path(file)))


def _neighbours(path: Path, before: set[str]) -> dict[str, ModuleType]:
    """Return the modules that lie below the folder of `path`, other than parts of packages that were there before."""
    return {
        name: module
        for name, module in sys.modules.copy().items()
        if name.partition(".")[0] not in before and not name.startswith("safedl_user_") and _is_below(module, path)
    }


def _is_below(module: ModuleType, path: Path) -> bool:
    about = getattr(module, "__dict__", {})  # not by attributes, which may do anything
    places = [Path(p) for p in (about.get("__file__"), *(about.get("__path__") or ())) if isinstance(p, str)]
    library = Path(sysconfig.get_path("stdlib"))
    return any(
        p.is_relative_to(path.parent)
        and not p.is_relative_to(library)
        and not _INSTALLED.intersection(p.relative_to(path.parent).parts)
        for p in places
    )


def _put_aside(neighbours: Mapping[str, ModuleType]) -> None:
    for name, module in neighbours.items():
        if sys.modules.get(name) is module:
            del sys.modules[name]


def _file_digest(path: Path) -> str:
    try:
        return file_digest(path)
    except OSError:
        return ""  # gone since


@contextmanager
def _explained(path: Path, what: str) -> Iterator[None]:
    """Raise `UsageError` that begins with `what` for anything that goes wrong in the module at `path`."""
    try:
        yield
    except (UsageError, KeyboardInterrupt):
        raise
    except BaseException as error:
        raise UsageError(f"{what}{_where(error, path)} failed: {in_a_line(error)}") from error


def _accepted(function: Any, optional: Mapping[str, Any]) -> dict[str, Any]:
    parameters = inspect.signature(function).parameters
    if any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values()):
        return dict(optional)
    return {name: value for name, value in optional.items() if name in parameters}


def _where(error: BaseException, path: Path) -> str:
    """Return the last line of the user's module that the error passed through."""
    lines = [f.lineno for f in traceback.extract_tb(error.__traceback__) if Path(f.filename) == path]
    return f", line {lines[-1]}," if lines else ""
