"""YAML text to a plain document and back: safe, bounded, and with one reading for reader and writer."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from safedl.errors import UsageError

MAX_CHARACTERS = 1_000_000
MAX_DEPTH = 40
MAX_BITS = 1000
"""Of whole numbers, about 300 digits: Python refuses to write those of thousands out."""
MAX_NODES = 50_000
"""With aliases written out, so that a few lines of nested aliases cannot stand for billions of values."""

_TAG = "tag:yaml.org,2002:"

_FLOAT = re.compile(r"[-+]?(?:[0-9][0-9_]*)(?:\.[0-9_]*)?[eE][-+]?[0-9]+$")
"""Numbers such as 1e-5, which YAML 1.1 takes for text."""

_SURROGATE = re.compile("[\ud800-\udfff]")


class _Loader(yaml.SafeLoader):
    """`yaml.SafeLoader` that refuses duplicate keys, deep nesting and alias bombs.

    It reads 1e-5 as a number and dates as text, so that a document holds only what JSON can hold too.
    """

    depth = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise yaml.composer.ComposerError(None, None, f"nested more than {MAX_DEPTH} levels deep", self.get_mark())
        node: yaml.Node | None = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def get_single_node(self) -> yaml.Node | None:
        node: yaml.Node | None = super().get_single_node()
        if node is not None and _size(node, {}) > MAX_NODES:
            raise yaml.composer.ComposerError(None, None, f"more than {MAX_NODES:,} values", node.start_mark)
        return node

    def construct_scalar(self, node: yaml.ScalarNode | yaml.MappingNode) -> Any:
        value = super().construct_scalar(node)
        if isinstance(value, str) and _SURROGATE.search(value):
            raise yaml.constructor.ConstructorError(None, None, "text that is not valid Unicode", node.start_mark)
        return value

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.tag != f"{_TAG}merge":
                if (key.tag, key.value) in seen:
                    problem = f"key '{key.value}' stands there twice"
                    raise yaml.constructor.ConstructorError(None, None, problem, key.start_mark)
                seen.add((key.tag, key.value))
        return node


class _Dumper(yaml.SafeDumper):
    """`yaml.SafeDumper` with indented lists, lists of plain values on one line, and no aliases."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, indentless=False)

    def represent_str(self, data: str) -> yaml.ScalarNode:
        # In single quotes PyYAML writes some line breaks (U+0085) so that they are read back as spaces.
        return self.represent_scalar(f"{_TAG}str", data, style=None if data.isprintable() else '"')

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _whole_number(loader: _Loader, node: yaml.ScalarNode) -> int:
    value: int = loader.construct_yaml_int(node)
    if value.bit_length() > MAX_BITS:
        raise yaml.constructor.ConstructorError(None, None, "a whole number of more than 300 digits", node.start_mark)
    return value


def _represent_list(dumper: _Dumper, values: Sequence[Any]) -> yaml.Node:
    flat = not any(isinstance(v, Mapping | list | tuple) for v in values)
    return dumper.represent_sequence(f"{_TAG}seq", values, flow_style=flat)


for _side in (_Loader, _Dumper):
    _side.yaml_implicit_resolvers = {
        first: [(tag, pattern) for tag, pattern in resolvers if tag != f"{_TAG}timestamp"]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    _side.add_implicit_resolver(f"{_TAG}float", _FLOAT, list("-+0123456789"))
_Loader.yaml_constructors = {
    tag: constructor
    for tag, constructor in yaml.SafeLoader.yaml_constructors.items()
    if tag not in {f"{_TAG}{name}" for name in ("timestamp", "binary", "set", "omap", "pairs")}
}
_Loader.add_constructor(f"{_TAG}int", _whole_number)
_Dumper.add_representer(str, _Dumper.represent_str)
_Dumper.add_representer(list, _represent_list)
_Dumper.add_representer(tuple, _represent_list)


def read(text: str, origin: str) -> dict[Any, Any]:
    """Return the mapping that YAML `text` holds; `origin` names it in errors.

    Raises `UsageError` for what is not YAML, builds objects, nests too deep or is no mapping.
    """
    if len(text) > MAX_CHARACTERS:
        raise UsageError(f"{origin}: longer than {MAX_CHARACTERS:,} characters; this is not a profile")
    try:
        content = yaml.load(text, Loader=_Loader)
    except yaml.constructor.ConstructorError as error:
        raise UsageError(f"{origin}{_place(error)}: {_tidy(error)}") from error
    except yaml.MarkedYAMLError as error:
        raise UsageError(f"{origin}{_place(error)}: not valid YAML: {_tidy(error)}") from error
    except yaml.YAMLError as error:
        raise UsageError(f"{origin}: not valid YAML: {str(error).splitlines()[0]}") from error
    except (ValueError, OverflowError, AttributeError, TypeError, IndexError, KeyError) as error:
        # PyYAML lets these through for scalars such as `!!int x`.
        raise UsageError(f"{origin}: a value that YAML cannot read: {str(error).splitlines()[0]}") from error
    if not isinstance(content, dict):
        found = "nothing" if content is None else type(content).__name__
        raise UsageError(f"{origin}: a profile is a mapping of sections (name, dataset, model ...); found {found}")
    return content


def write(document: Mapping[str, Any]) -> str:
    """Return `document` as YAML that `read` gives back unchanged, keys in their order."""
    return yaml.dump(
        dict(document), Dumper=_Dumper, sort_keys=False, allow_unicode=True, default_flow_style=False, width=110
    )


def _size(node: yaml.Node, known: dict[int, int]) -> int:
    """Count the values below a node with aliases written out; a node that contains itself counts as too many."""
    if isinstance(node, yaml.ScalarNode):
        return 1
    if id(node) not in known:
        known[id(node)] = MAX_NODES + 1
        children = (part for item in node.value for part in (item if isinstance(item, tuple) else (item,)))
        known[id(node)] = 1 + sum(_size(child, known) for child in children)
    return known[id(node)]


def _place(error: yaml.MarkedYAMLError) -> str:
    mark = error.problem_mark or error.context_mark
    return f" line {mark.line + 1}" if mark else ""


def _tidy(error: yaml.MarkedYAMLError) -> str:
    problem = " ".join(", ".join(part for part in (error.context, error.problem) if part).split())
    if "could not determine a constructor for the tag" in problem:
        tag = problem.split("tag", 1)[1].strip()
        return f"the tag {tag} is not allowed; a profile holds text, numbers, lists and mappings only"
    return problem
