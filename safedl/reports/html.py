"""Markdown reports as one HTML file: pictures inside, plain style, no script, nothing fetched from anywhere."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.token import Token
from markdown_it.utils import EnvType, OptionsDict

from safedl.reports.markdown import plain

POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
"""What a browser may load: what stands in the file. So nothing in a name can call home, whatever else fails."""

STYLE = """
:root { color-scheme: light dark; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 72rem; margin: 2rem auto; padding: 0 1rem; }
h1, h2, h3 { line-height: 1.2; }
h2 { border-bottom: 1px solid; padding-bottom: .2rem; margin-top: 2.5rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: .875rem; }
th, td { border: 1px solid #8888; padding: .25rem .5rem; text-align: left; vertical-align: top; }
td[style*="right"] { font-variant-numeric: tabular-nums; white-space: nowrap; }
img { max-width: 100%; background: #fff; padding: .5rem; }
"""


class _Markdown(MarkdownIt):
    def validateLink(self, url: str) -> bool:  # noqa: N802 - the library's name
        """Say whether an address stays beside the report: it names neither a protocol nor a host."""
        return ":" not in url and not url.startswith("/")


def page(title: str, markdown: str, pictures: Mapping[str, bytes]) -> str:
    """Return a Markdown document as a self-contained HTML page.

    `pictures`: PNG files by the path under which the document shows them; an image that is not among them becomes its
    description. HTML within the Markdown is shown as text, and only relative links are kept.
    """
    parser = _Markdown("commonmark", {"html": False}).enable("table")
    parser.add_render_rule("image", _image)
    parser.add_render_rule("table_open", lambda *_: '<div class="wide"><table>\n')
    parser.add_render_rule("table_close", lambda *_: "</table></div>\n")
    body = parser.render(markdown, {"pictures": pictures})
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(plain(title))}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n{body}</body>\n</html>\n"
    )


def _image(_: RendererHTML, tokens: Sequence[Token], index: int, __: OptionsDict, env: EnvType) -> str:
    token = tokens[index]
    pictures: Mapping[str, Any] = env["pictures"]
    found, text = pictures.get(str(token.attrs.get("src"))), escape(token.content)
    if found is None:
        return text
    return f'<img alt="{text}" src="data:image/png;base64,{base64.b64encode(found).decode()}">'
