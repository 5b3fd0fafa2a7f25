"""Whatever stands in a document: it loads, or there is an error that a person can read."""

from __future__ import annotations

import copy
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from safedl.errors import SafedlError
from safedl.profile.document import read, write
from safedl.profile.load import check, load, parse
from safedl.profile.save import dump, resolved
from tests.profile.conftest import PUBLISHED, SHIPPED, VALID

DOCUMENTS = [
    read(VALID, "valid"),
    *(read(p.read_text(), p.name) for p in [*sorted(PUBLISHED.glob("*.yaml")), *sorted(SHIPPED.glob("*.yaml"))]),
]
NAMES = st.sampled_from(
    ["name", "defenses", "backdoor", "evasion_attacks", "static_patch", "learned", "pruning", "params", "path", "type"]
)
ODD: list[Any] = [None, True, -1, 0, 10**30, 1.5, float("nan"), "", "x", "conv.0", "../y", [], {}, "\x00", "é" * 300]
JUNK = st.recursive(
    st.sampled_from(ODD) | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES | st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


def places(node: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    children = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    return [path, *(place for key, child in children for place in places(child, (*path, key)))]


@st.composite
def mutated(draw: st.DrawFn) -> dict[Any, Any]:
    document: dict[Any, Any] = copy.deepcopy(draw(st.sampled_from(DOCUMENTS)))
    for _ in range(draw(st.integers(1, 3))):
        path = draw(st.sampled_from(places(document)[1:]))
        inner: Any = document
        for key in path[:-1]:
            inner = inner[key]
        action = draw(st.sampled_from(["replace", "remove", "add"]))
        if action == "remove":
            del inner[path[-1]]
        elif action == "add" and isinstance(inner, dict):
            inner[draw(NAMES | st.text(max_size=5) | st.integers() | st.none())] = draw(JUNK)
        else:
            inner[path[-1]] = draw(JUNK)
        if not places(document)[1:]:
            break
    return document


@given(mutated())
@settings(max_examples=200, deadline=None)
def test_a_damaged_profile_is_refused_or_loads(document: dict[Any, Any]) -> None:
    try:
        profile = check(document)
    except SafedlError as error:
        assert 0 < len(str(error)) < 30_000
        return
    again = check(read(dump(resolved(profile)), "resolved"))
    assert again.attacks == profile.attacks


@given(st.data())
@settings(max_examples=100, deadline=None)
def test_a_damaged_text_is_refused_or_loads(data: st.DataObject) -> None:
    text = write(data.draw(st.sampled_from(DOCUMENTS)))
    at, length = data.draw(st.integers(0, len(text))), data.draw(st.integers(0, 20))
    junk = data.draw(st.text(st.sampled_from("{}[]:-&*!|>'\"#%@`,?\t\n ab1."), max_size=10))
    try:
        parse(text[:at] + junk + text[at + length :])
    except SafedlError as error:
        assert str(error)


def test_what_show_prints_means_the_same() -> None:
    for path in [*PUBLISHED.glob("*.yaml"), *SHIPPED.glob("*.yaml")]:
        profile = load(path)
        again = parse(dump(resolved(profile)))
        assert (again.attacks, again.training, again.dataset) == (profile.attacks, profile.training, profile.dataset)
