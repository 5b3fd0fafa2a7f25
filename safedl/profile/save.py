"""Writing profiles: new ones, and changes that leave order, comments and unknown sections as they were."""

from __future__ import annotations

import io
import itertools
import re
from collections.abc import Mapping, Set
from pathlib import Path
from typing import Any

import yaml as pyyaml

from safedl.errors import UsageError, cannot_write
from safedl.profile import document as yaml_document
from safedl.profile.load import check, parse, read_text
from safedl.profile.schema import AttackChoice, Profile
from safedl.reports import files

_NESTED = re.compile(r"^[^\s#][^\n]*:[ ]*(?:#[^\n]*)?\n([ ]+)[^\s#-]", re.MULTILINE)
_DASH = re.compile(r"^([ ]*)[^\s#-][^\n]*:[ ]*(?:#[^\n]*)?\n([ ]*)- ", re.MULTILINE)
"""Where a file's indentation shows: the first nested mapping, and the first list under a key."""

LONGEST = 1_000_000
"""Characters on a line before it would be wrapped: a line that nobody changed stays as long as it is."""


def dump(document: Mapping[str, Any], comment: str = "") -> str:
    """Return a document as YAML, with `comment` (without `#`, several lines allowed) above it."""
    head = "".join(f"# {line}".rstrip() + "\n" for line in comment.splitlines())
    return head + yaml_document.write(document)


def update(path: Path, changes: Mapping[str, Any]) -> Profile:
    """Set top-level sections of the profile at `path` and return it, checked; None removes a section.

    What stays the same keeps its place, its comments, its spelling and its line ends. The file is replaced in one step,
    and only by a valid profile: else `ProfileError` is raised and it stays as it is.
    """
    path = path.resolve()  # a link stays a link
    text = read_text(path)
    old = yaml_document.read(text, str(path))
    new = {key: value for key, value in {**old, **changes}.items() if value is not None or key not in changes}
    check(new, path)
    written = _edited(text, old, new)
    raw = path.read_bytes()
    dos = raw.count(b"\r\n") == raw.count(b"\n") > 0
    store(path, written.replace("\n", "\r\n") if dos else written)
    return parse(written, path)


def store(path: Path, text: str) -> None:
    """Write or replace a profile's file in one step. Raises what `cannot_write` returns if that is not possible."""
    try:
        files.write_text(path, text)
    except OSError as error:
        raise cannot_write(path, error) from error


def resolved(profile: Profile) -> dict[str, Any]:
    """Return the document that a run goes by: every parameter written out, defaults included."""
    document: dict[str, Any] = {"name": profile.name}
    for section in ("dataset", "model", "training", "acceptance"):
        settings = getattr(profile, section)
        if settings is not None:
            document[section] = settings.model_dump(mode="json")
    if "scan" in profile.document:
        document["scan"] = profile.scan.model_dump(mode="json")
    if profile.threat_model:
        document["threat_model"] = dict(profile.threat_model)
    document["attack_overrides"] = {}
    document["defense_config"] = {}
    for choice in profile.attacks:
        category, name = choice.spec.category, choice.spec.name
        document["attack_overrides"].setdefault(category, {})[name] = choice.params.model_dump(mode="json")
        if choice.defenses:
            document["defense_config"].setdefault(category, {})[name] = defense_section(choice)
    return document


def defense_section(choice: AttackChoice) -> dict[str, Any]:
    """Return what `defense_config` says about one attack, every parameter written out."""
    parameters = {d.spec.name: d.params.model_dump(mode="json") for d in choice.defenses}
    return {"defenses": list(parameters), **parameters}


def _edited(text: str, old: Mapping[Any, Any], new: Mapping[Any, Any]) -> str:
    """Return `text`, which reads as `old`, changed to read as `new`: with its comments, or without if need be."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    yaml = YAML()
    yaml.preserve_quotes = True
    yaml.width = LONGEST
    nested, dash = _NESTED.search(text), _DASH.search(text)
    offset = len(dash[2]) - len(dash[1]) if dash else 2
    yaml.indent(mapping=len(nested[1]) if nested else 2, sequence=offset + 2, offset=offset)
    try:
        tree = yaml.load(text)
        _merge(yaml, tree, old, new)
        out = io.StringIO()
        yaml.dump(tree, out)
        written = out.getvalue()
        if yaml_document.read(written, "") == new:
            same = {str(key) for key in old if key in new and _same(old[key], new[key])}
            return _with_sections_of(text, written, same, new)
    except (YAMLError, UsageError, AttributeError, TypeError, ValueError, LookupError):
        pass  # what one parser reads and the other does not: the content matters more than the comments
    return dump(new)


def _with_sections_of(text: str, written: str, same: Set[str], new: Mapping[Any, Any]) -> str:
    """Return `written` with the top-level sections named `same` to the letter as `text` has them, if it then reads so.

    The writer would join lines, and tidy spaces and brackets, in sections that nobody changed; and it drops comments
    that follow what it replaces or removes.
    """
    before, after = _sections(text), _sections(written)
    parts = []
    for name, part in after.items():
        if name is None or name in same:
            parts.append(before.get(name, part))
        else:
            parts.append(_ended(part, _split(before[name])[1] if name in before else ""))
        if name in before:
            following = itertools.islice(before, list(before).index(name) + 1, None)
            gone = itertools.takewhile(lambda other: other not in after, following)
            parts += [_split(before[other])[1] for other in gone]
    spliced = "".join(part if part.endswith("\n") or not part else f"{part}\n" for part in parts)
    try:
        return spliced if before and _same(yaml_document.read(spliced, ""), dict(new)) else written
    except UsageError:  # a section that names what another one defines, or a document's end mark
        return written


def _split(section: str) -> tuple[str, str]:
    """Return a section's text without its last empty lines and comments at the margin, and these.

    They mostly head the next section.
    """
    lines = section.splitlines(keepends=True)
    end = next((n for n in range(len(lines), 0, -1) if lines[n - 1].strip() and not lines[n - 1].startswith("#")), 0)
    return "".join(lines[:end]), "".join(lines[end:])


def _ended(section: str, tail: str) -> str:
    """Return a section that ends in `tail`, which the writer drops, or leaves above what came to the section's end."""
    body, end = _split(section)
    if tail.strip() and end != tail:
        above, _, below = body.rpartition(f"\n{tail}")
        body = f"{above}\n{below}" if above else body
    return body + tail


def _sections(text: str) -> dict[str | None, str]:
    """Return the text of each top-level section, from its key to the next one, and None: what stands above them.

    Nothing if they are not set apart.
    """
    node = pyyaml.compose(text, Loader=pyyaml.SafeLoader)
    if not isinstance(node, pyyaml.MappingNode) or node.flow_style:
        return {}
    starts = [0, *(key.start_mark.index for key, _ in node.value), len(text)]
    names = [None, *(str(key.value) for key, _ in node.value)]
    found = {name: text[start:end] for name, (start, end) in zip(names, itertools.pairwise(starts), strict=True)}
    return found if len(found) == len(names) else {}


def _merge(yaml: Any, tree: Any, old: Mapping[Any, Any], new: Mapping[Any, Any]) -> None:
    """Make the mapping `tree`, which reads as `old`, read as `new`, touching only what differs."""
    for key in [key for key in old if key not in new]:
        del tree[key]
    for key, value in new.items():
        before = old.get(key)
        if key in old and _same(before, value):
            continue
        if isinstance(before, dict) and before and isinstance(value, Mapping) and value:
            _merge(yaml, tree[key], before, value)
        else:
            tree[key] = yaml.load(yaml_document.write({"value": value}))["value"]


def _same(left: Any, right: Any) -> bool:
    """Equal, and true not taken for 1, in any depth."""
    return bool(left == right) and repr(left) == repr(right)
