from __future__ import annotations

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from safedl.errors import UsageError
from safedl.profile.document import read, write

BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 12)
)

REFUSED = {
    "not YAML": ("name: {x", "not valid YAML"),
    "builds objects": ("name: !!python/object/apply:os.system ['true']", "os.system' is not allowed"),
    "binary": ("name: !!binary aGVsbG8=", "is not allowed"),
    "a list": ("- name", "found list"),
    "a word": ("just text", "found str"),
    "empty": ("# nothing\n", "found nothing"),
    "two documents": ("name: a\n---\nname: b", "single document"),
    "duplicate key": ("name: a\nname: b", "key 'name' stands there twice"),
    "duplicate key deep inside": ("a: {b: 1, 'b': 2}", "key 'b' stands there twice"),
    "too deep": ("a: " + "[" * 100_000, "nested more than 40 levels"),
    "alias bomb": (BOMB, "more than 50,000 values"),
    "contains itself": ("a: &a [*a]", "more than 50,000 values"),
    "too long": ("a: " + "x" * 1_000_001, "longer than"),
    "undefined alias": ("a: *b", "undefined alias"),
    "control character": ("a: \x07", "not allowed"),
    "half a surrogate": ('a: "\\ud800"', "Unicode"),
    "not a number": ("a: !!int x", "cannot read"),
    "number too long": ("a: " + "9" * 5000, "cannot read"),
    "number too long in hexadecimal": ("a: 0x" + "F" * 5000, "a whole number of more than 300 digits"),
    "unhashable key": ("? [1]\n: 2", "unhashable key"),
}


@pytest.mark.parametrize(("text", "reason"), REFUSED.values(), ids=REFUSED)
def test_refuses_with_one_line_that_names_the_file(text: str, reason: str) -> None:
    with pytest.raises(UsageError) as caught:
        read(text, "p.yaml")
    message = str(caught.value)
    assert message.startswith("p.yaml")
    assert reason in message
    assert "\n" not in message


def test_error_names_the_line() -> None:
    with pytest.raises(UsageError, match=r"p\.yaml line 3: key 'b'"):
        read("a: 1\nb: 2\nb: 3\n", "p.yaml")


@pytest.mark.parametrize(("text", "value"), [("1e-5", 1e-5), ("1E5", 1e5), ("-2e+3", -2000.0), ("1.5e3", 1500.0)])
def test_reads_exponents_as_numbers(text: str, value: float) -> None:
    assert read(f"a: {text}", "p") == {"a": value}
    assert isinstance(read(f"a: {text}", "p")["a"], float)


def test_dates_stay_text() -> None:
    assert read("a: 2024-01-31", "p") == {"a": "2024-01-31"}


def test_anchors_and_merge_keys_work() -> None:
    assert read("x: &x {k: 1}\ny: {<<: *x, l: 2}\nz: *x", "p") == {"x": {"k": 1}, "y": {"k": 1, "l": 2}, "z": {"k": 1}}


text = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | text
scalars |= st.sampled_from(["no", "1e-5", "2024-01-31", "null", "~", "<<", "=", "0x1f", "1:30", "", "- a", "#", "*x"])
values = st.recursive(scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(text, inner, max_size=4))
documents = st.dictionaries(text, values, max_size=5)


@given(documents)
@settings(deadline=None)
def test_what_is_written_is_read_back(document: dict[str, object]) -> None:
    back = read(write(document), "p")
    assert repr(back) == repr(document)  # order and types included


@given(documents)
@settings(max_examples=30, deadline=None)
def test_other_readers_see_the_same_mappings(document: dict[str, object]) -> None:
    assert list(yaml.safe_load(write(document))) == list(document)
