"""The profile that is being edited: shared by the panes, saved at each change that leaves it valid."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safedl.catalog import ATTACKS, AttackSpec, category
from safedl.catalog.datasets import DATASETS
from safedl.catalog.settings import DatasetSettings
from safedl.errors import NotFoundError, SafedlError, UsageError
from safedl.profile import document as yaml_document
from safedl.profile.load import check, read_text
from safedl.profile.names import check_name
from safedl.profile.problems import Problem, ProfileError
from safedl.profile.save import dump, store, update
from safedl.threats import CATEGORIES, QUESTIONS, not_simulated
from safedl.threats.build import attack_entries, build_profile, explain
from safedl.workspace import Workspace

if TYPE_CHECKING:
    from safedl.profile.schema import Profile
    from tui.app import SafedlApp

REMOVED = object()
"""Given as a value, it takes a key away."""
MOST_UNDONE = 100


class Draft:
    """A profile's file, and the document on the screen, which differs from it while something is not valid.

    Each change is checked and, if everything is valid, saved at once; a shipped profile is copied into the workspace
    first. The text from before the first change is kept beside the file as `.bak`.
    """

    def __init__(self, workspace: Workspace, name: str) -> None:
        """Read the profile `name` of a workspace. Raises `NotFoundError` if there is none."""
        self.workspace, self.name = workspace, name
        self.path = workspace.find_profile(name)
        self.document: dict[Any, Any] = {}
        self.problems: tuple[Problem, ...] = ()
        self.broken = ""
        """Why the file cannot be read as a profile's document; empty if it can."""
        self.profile: Profile | None = None
        """The checked profile, None while something is wrong."""
        self.text = ""
        self._undone: list[str] = []
        self._stamp: tuple[int, int] | None = None
        self.read()
        self.first = self.text
        """The text when the profile was opened."""

    @property
    def shipped(self) -> bool:
        """Whether the file came with Safe-DL: it stays as it is, a change goes into a copy."""
        return self.path.resolve().parent != (self.workspace.root / "profiles").resolve()

    @property
    def unsaved(self) -> bool:
        """Whether the screen shows something that is not in the file, because it is not valid."""
        return bool(self.problems) and self.document != self._saved

    def read(self) -> None:
        """Read the file; what is on the screen and not valid is dropped."""
        self.broken, self.document, self.profile, self.problems = "", {}, None, ()
        self._stamp = _stamp(self.path)
        try:
            self.text = read_text(self.path)
            self.document = yaml_document.read(self.text, self.path.name)
        except SafedlError as error:
            self.broken = str(error)
            return
        finally:
            self._saved = self.document
        self._check()

    def refresh(self) -> None:
        """Read the file if someone else has written it; what was done before can then not be undone any more."""
        if _stamp(self.path) != self._stamp:
            self._undone.clear()
            self.read()

    def change(self, changes: Mapping[tuple[str, ...], Any]) -> bool:
        """Set values by their key paths (`REMOVED` takes one away); save if all is valid, and return whether it is.

        Raises `UsageError` if the file cannot be read or written, or was changed by someone else: then it is read anew.
        """
        self._refuse_if_changed("make your change again")
        if self.broken:
            raise UsageError(self.broken)
        before, undone = self.document, self._undone
        for path, value in changes.items():
            self.document = placed(self.document, path, value)
        self._check()
        if self.problems or self.document == self._saved:
            return not self.problems
        keys = dict.fromkeys((*self._saved, *self.document))
        sections = {k: self.document.get(k) for k in keys if self.document.get(k) != self._saved.get(k)}
        try:
            own = self.own()
            self._remember()
            update(own, sections)
        except SafedlError:
            self.document, self._undone = before, undone  # the screen must not show what is not in the file
            self._check()
            raise
        self._saved, self.text, self._stamp = self.document, read_text(self.path), _stamp(self.path)
        return True

    def undo(self) -> bool:
        """Take back the last saved change, or drop what is not valid; return whether there was any.

        Raises as `change` does.
        """
        self._refuse_if_changed("what was done before cannot be taken back any more")
        if self.unsaved:
            self.read()
            return True
        if not self._undone:
            return False
        store(self.path, self._undone.pop())
        self.read()
        return True

    def _refuse_if_changed(self, then: str) -> None:
        if _stamp(self.path) != self._stamp:
            self.refresh()
            raise UsageError(self.broken or f"{self.path} was changed elsewhere and is read anew; {then}")

    def edited(self, *, copied: bool) -> None:
        """Read the file after an editor has closed; a copy made for it goes away again if nothing was written."""
        if read_text(self.path) != self.text:
            self._remember()
        elif copied:
            self.path.unlink()
            self.path = self.workspace.find_profile(self.name)
        self.read()

    def own(self) -> Path:
        """Return the workspace's own file of this profile, copying a shipped one first."""
        if self.shipped:
            copy = self.workspace.root / "profiles" / f"{self.name}.yaml"
            store(copy, self.text)
            self.path, self._stamp = copy, _stamp(copy)
        return self.path

    def diff(self) -> list[str]:
        """Return what has changed in the file since it was opened, as lines of a unified diff."""
        return difference(self.first, self.text)

    def problems_of(self, path: tuple[str, ...]) -> dict[str, str]:
        """Return what is wrong below a key path, by the key that follows it."""
        prefix = ".".join(path) + "."
        found: dict[str, str] = {}
        for problem in self.problems:
            if problem.path.startswith(prefix):
                found.setdefault(problem.path.removeprefix(prefix).split("[")[0], problem.message)
        return found

    def _check(self) -> None:
        self.profile, self.problems = None, ()
        try:
            self.profile = check(self.document, self.path)
        except ProfileError as error:
            self.problems = error.problems

    def _remember(self) -> None:
        if not self._undone:
            store(self.path.with_name(f"{self.path.name}.bak"), self.text)
        self._undone = [*self._undone[-MOST_UNDONE:], self.text]


def current(frame: SafedlApp) -> Draft:
    """Return the profile that the panes show: the one chosen last, else the one that ran last, the newest, the demo.

    One whose file is gone stays: a change that was meant for it must not land in another profile.
    """
    if frame.draft is None:
        known = frame.workspace.profiles()
        chosen = frame.memory.get(f"profile {frame.workspace.root}", "")
        if chosen not in known:
            own = [p for p in known.values() if p.parent == frame.workspace.root / "profiles"]
            newest = max(own, key=lambda p: _stamp(p) or (0, 0), default=known["digits"]).stem
            chosen = ran_last(frame.workspace) or newest
        frame.draft = Draft(frame.workspace, chosen)
    frame.draft.refresh()
    return frame.draft


def ran_last(workspace: Workspace) -> str | None:
    """Return the name of the known profile that ran last, None if there is none such."""
    known = workspace.profiles()
    for uid in reversed(workspace.experiments()):
        try:
            plan = workspace.read_plan(uid)
        except NotFoundError:
            continue
        for name in (Path(str(plan.get("profile") or "")).stem, str(plan.get("name", ""))):
            if name in known:
                return name
    return None


def choose(frame: SafedlApp, name: str) -> Draft:
    """Let the panes show another profile, and remember it."""
    frame.draft = Draft(frame.workspace, name)
    frame.memory.set(f"profile {frame.workspace.root}", name)
    return frame.draft


def name_problem(workspace: Workspace, name: str) -> str:
    """Say why a new profile cannot have this name; empty if it can."""
    try:
        check_name(name)
    except UsageError as error:
        return str(error).removeprefix("name: ")
    return f"there is a profile '{name}' already" if name in workspace.profiles() else ""


def new_text(name: str, answers: Mapping[str, str], dataset: str, categories: Iterable[str]) -> str:
    """Return the YAML of a new profile, as `safedl profile new` writes it."""
    chosen = list(categories)
    lines = ["Written by the questions of Safe-DL. Threats:", *(f"  {line}" for line in explain(answers, chosen))]
    return dump(build_profile(name, answers, dataset, categories=chosen), "\n".join(lines))


def cover(document: Mapping[Any, Any], threat: str, *, covered: bool) -> dict[tuple[str, ...], Any]:
    """Return the changes by which a profile covers a threat category, or leaves it out: its attacks come or go."""
    threats = section_of(document, "threat_model")
    listed = threats.get("threat_categories") or []
    named = [c for c in ([listed] if isinstance(listed, str) else listed) if c != threat]
    named += [threat] if covered else []
    changes: dict[tuple[str, ...], Any] = {("threat_model", "threat_categories"): named}
    if "not_simulated" in threats:
        changes["threat_model", "not_simulated"] = list(not_simulated(named))
    attacks = [ATTACKS[a] for a in CATEGORIES[threat].simulated]
    return changes | (added(document, attacks) if covered else removed(document, attacks))


def added(document: Mapping[Any, Any], attacks: Iterable[AttackSpec]) -> dict[tuple[str, ...], Any]:
    """Return the changes that add attacks, with parameters that suit the profile, and defenses against them."""
    threats = section_of(document, "threat_model")
    answers = {q.id: threats[q.id] if threats.get(q.id) in q.values else q.values[0] for q in QUESTIONS}
    name = section_of(document, "dataset").get("name")
    dataset = DatasetSettings(name=name if name in DATASETS else "digits")
    changes: dict[tuple[str, ...], Any] = {}
    for spec in attacks:
        for section, entry in attack_entries(spec.name, answers, dataset).items():
            path = place(document, section, spec)
            if found(document, path) is None:
                changes[path] = entry
    return changes


def removed(document: Mapping[Any, Any], attacks: Iterable[AttackSpec]) -> dict[tuple[str, ...], Any]:
    """Return the changes that take attacks away, with the defenses against them."""
    places = [place(document, section, spec) for spec in attacks for section in ("attack_overrides", "defense_config")]
    return {path: REMOVED for path in places if found(document, path[:-1]) and path[-1] in found(document, path[:-1])}


def attacks_of(draft: Draft) -> list[str]:
    """Return the attacks that the document names, valid or not."""
    sections = ("attack_overrides", "defense_config")
    return [name for name, spec in ATTACKS.items() if any(_named(draft.document, s, spec) for s in sections)]


def _named(document: Mapping[Any, Any], section: str, spec: AttackSpec) -> bool:
    *above, name = place(document, section, spec)
    entries = found(document, above)
    return isinstance(entries, Mapping) and name in entries


def place(document: Mapping[Any, Any], section: str, spec: AttackSpec) -> tuple[str, str, str]:
    """Return the key path of an attack's entry in a section, in the spelling that the document uses."""
    for spelling, entries in section_of(document, section).items():
        try:
            known = category(str(spelling))
        except UsageError:
            continue
        if known == spec.category:
            names = [n for n in (spec.name, *spec.aliases) if isinstance(entries, Mapping) and n in entries]
            return section, spelling, names[0] if names else spec.name
    return section, spec.category, spec.name


def section_of(document: Mapping[Any, Any], name: str) -> Mapping[Any, Any]:
    """Return a section, or an empty one where a file has something else in its place."""
    value = document.get(name)
    return value if isinstance(value, Mapping) else {}


def found(document: Mapping[Any, Any], path: Iterable[str]) -> Any:
    """Return the value at a key path, None if there is none."""
    value: Any = document
    for key in path:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def placed(document: Mapping[Any, Any], path: tuple[str, ...], value: Any) -> dict[Any, Any]:
    """Return a copy of a document with a value at a key path; mappings that became empty go with their last key."""
    key, *rest = path
    copy = dict(document)
    if rest:
        below = copy.get(key)
        value = placed(below if isinstance(below, Mapping) else {}, tuple(rest), value) or REMOVED
    if value is REMOVED:
        copy.pop(key, None)
    else:
        copy[key] = value
    return copy


def difference(before: str, after: str) -> list[str]:
    """Return the lines of a unified diff, without its head and without places."""
    lines = list(difflib.unified_diff(before.splitlines(), after.splitlines(), n=1, lineterm=""))[2:]
    return ["…" if line.startswith("@@") else line for line in lines]


def _stamp(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size
