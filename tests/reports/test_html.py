from __future__ import annotations

import base64

import pytest

from safedl.reports.html import page

PNG = b"\x89PNG"


def test_known_pictures_stand_inside_and_others_do_not() -> None:
    text = page("t", "![known](a/b.png) ![other](http://x/y.png) ![gone](c.png)", {"a/b.png": PNG})
    assert f'<img alt="known" src="data:image/png;base64,{base64.b64encode(PNG).decode()}">' in text
    assert text.count("<img") == 1
    assert "gone" in text


def test_tables_can_scroll() -> None:
    text = page("t", "| a | b |\n| ---: | --- |\n| 1 | x |\n", {})
    assert '<div class="wide"><table>' in text
    assert '<td style="text-align:right">1</td>' in text


@pytest.mark.parametrize(
    "address",
    ["javascript:alert(1)", "JaVaScRiPt:x", "data:text/html,x", "http://x/", "//x/y", "file:///etc"],
)
def test_links_lead_nowhere_but_beside_the_report(address: str) -> None:
    assert "href" not in page("t", f"[a]({address}) <{address}> [b][c]\n\n[c]: {address}\n", {})


def test_relative_links_are_kept() -> None:
    assert '<a href="../runs/u1/">u1</a>' in page("t", "[u1](../runs/u1/)", {})


def test_html_is_shown_as_text() -> None:
    text = page("</title><script>", "<script>alert(1)</script>\n\n<b>x</b> &lt;i&gt;", {})
    assert "<script" not in text
    assert "<b>" not in text
    assert "&lt;i&gt;" in text
    assert "<title>&lt;/title&gt;&lt;script&gt;</title>" in text


def test_a_policy_forbids_what_should_not_be_there_anyway() -> None:
    text = page("t", "", {})
    assert "default-src 'none'; img-src data:" in text
    assert "http://" not in text and "https://" not in text
