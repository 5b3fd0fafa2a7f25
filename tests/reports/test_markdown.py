"""Text from anywhere stays text: checked with an independent Markdown parser."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from markdown_it.token import Token

from safedl.reports.markdown import Markup, cell, difference, escape, exact, image, number, plain, section, table

PARSER = MarkdownIt("commonmark").enable("table")

HOSTILE = [
    "a|b", "<script>alert(1)</script>", "`code`", "![x](http://evil)", "[x](y)", "a\nb", "\x1b[31mred", "x\x9b2Jy",
    "*bold* _it_ __b__", "# heading", "1. item", "- item", "> quote", "\\", "\\|", "a\\", "&lt;", "$x$", "~~s~~",
    "\u202egnp.exe", "../../etc/passwd", "<!-- -->", "&#124;", "www.evil.com", "http://evil.com", "\udc80", "",
]  # fmt: skip


def texts(tokens: list[Token]) -> list[str]:
    """Return the text of every table cell; fails if a cell holds anything but text."""
    inline = [t for t in tokens if t.type == "inline"]
    for token in inline:
        assert {child.type for child in token.children or []} <= {"text", "text_special"}
    return ["".join(child.content for child in token.children or []) for token in inline]


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_are_shown_as_they_are(name: str) -> None:
    assert texts(PARSER.parse(table(["Name", "x"], [[name, "y"]]))) == ["Name", "x", plain(name).strip(), "y"]


@given(st.text(max_size=60))
def test_any_text_is_shown_as_it_is(name: str) -> None:
    cells = texts(PARSER.parse(table([name, "x"], [["y", name]])))
    assert cells == [plain(name).strip(), "x", "y", plain(name).strip()]


@given(st.text(min_size=1, max_size=60))
def test_any_text_may_start_a_line(name: str) -> None:
    tokens = PARSER.parse(escape(name).strip())
    assert [t.type for t in tokens if t.block and t.type != "inline"] in (["paragraph_open", "paragraph_close"], [])


@given(st.text(max_size=60))
def test_plain_text_is_one_printable_line(name: str) -> None:
    assert plain(name).isprintable()


def test_control_characters_are_shown_instead_of_obeyed() -> None:
    assert plain("a\x1b[2J\n\u202eb") == "a\\x1b[2J\\n\\u202eb"


def test_long_text_is_cut() -> None:
    assert plain("x" * 300) == "x" * 199 + "…"


def test_ordinary_names_stay_readable() -> None:
    assert escape("conv.0.weight of static_patch (3x3)") == "conv.0.weight of static_patch (3x3)"


def test_markup_is_not_escaped_again() -> None:
    assert escape(escape("a|b")) == escape("a|b")
    assert cell(image("a]b", "examples/1.png")) == r"![a\]b](examples/1.png)"


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0.12345, "0.123"), (1.0, "1.000"), (7, "7"), (0.0, "0.000"), (1e-5, "1.00e-05"), (-0.5, "-0.500"),
     (None, "-"), (float("nan"), "-")],
)  # fmt: skip
def test_numbers(value: float | None, shown: str) -> None:
    assert number(value) == shown


def test_differences_have_a_sign() -> None:
    assert difference(0.5, 0.25) == "+0.250"
    assert difference(0.25, 0.5) == "-0.250"
    assert difference(0.5, 0.50001) == "+0.000"
    assert difference(None, 0.5) == "-"


def test_parameters_are_not_rounded() -> None:
    assert cell(exact(0.0015)) == "0.0015"
    assert cell(exact(1e-5)) == "1e-05"
    assert cell(exact(True)) == "yes"


def test_lists_and_mappings_in_a_cell() -> None:
    assert cell([1, 0.5, "a|b"]) == "1, 0.500, a&#124;b"
    assert cell(list(range(12))) == "0, 1, 2, 3, 4, 5, 6, 7, 8, 9 ... (12 in all)"
    assert cell({"k": False}) == "k: no"
    assert cell([]) == "none"


def test_tables_set_numbers_to_the_right() -> None:
    assert table(["a", "b"], [["x", 1], ["y", None]]) == "| a | b |\n| --- | ---: |\n| x | 1 |\n| y | - |"
    assert table(["a"], []) == "none"


def test_empty_sections_vanish() -> None:
    assert section("Title", "", Markup("")) == ""
    assert section("Title", "", "text", level=3) == "### Title\n\ntext"
