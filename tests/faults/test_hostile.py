"""Names that come with the data: shown harmlessly in the terminal, in Markdown, in HTML, and as file names."""

from __future__ import annotations

import json
import os
import re
import sys
from html.parser import HTMLParser

import pytest
from markdown_it import MarkdownIt
from PIL import Image
from sklearn.datasets import load_digits

from safedl import cli
from safedl.cli import output
from safedl.workspace import Workspace
from tests.faults import harness

NAMES = (
    b"<img src=x onerror=alert(1)><script>alert(2)<",
    b"\x1b[2J\x1b]0;title\x07\xc2\x9b31m",
    b"a\nb\r| c | `d` *e* [f](javascript:alert(3)) ![g](http:h)",
    b"caf\xe9 \xe2\x80\xae [red]..\\..",
)
PROFILE = """
name: "<b>`x` [red] | *y*"
dataset: {name: "<i>[data]", type: custom, path: images}
model: {name: cnn, params: {conv_filters: 8, hidden_size: 32}}
training: {epochs: 1, batch_size: 32, learning_rate: 0.003, precision: float32}
threat_model: {model_access: "<script>alert(4)</script>\\x1b[2J", data_sources: ["../../x", "\\n# title"]}
attack_overrides:
  backdoor: {static_patch: {patch_size_ratio: 0.3, target_class: 2}}
defense_config:
  backdoor: {static_patch: {defenses: [activation_clustering]}}
"""
COMMANDS = (
    ("runs", "ls"), ("runs", "ls", "--json"), ("runs", "logs", "@"), ("runs", "logs", "@", "--json"), ("compare",),
    ("risk", "small"), ("check", "small"), ("report", "small", "--format", "html"), ("profile", "show", "small"),
    ("profile", "check", "small"), ("sql", "SELECT * FROM metric"), ("sql", "--json", "SELECT name FROM metric"),
    ("plan", "small"),
)  # fmt: skip
OBEYED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
"""What a terminal, or a reader of text, would obey instead of showing it."""


class Tags(HTMLParser):
    """Collects elements, and the addresses that they name."""

    def __init__(self, document: str) -> None:
        super().__init__()
        self.found: set[str] = set()
        self.addresses: list[str] = []
        self.feed(document)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.found.add(tag)
        assert not [name for name, _ in attributes if name.startswith("on")]
        self.addresses += [value or "" for name, value in attributes if name in ("src", "href")]


def harmless(document: str) -> None:
    tags = Tags(document)
    assert not tags.found & {"script", "i", "b", "iframe", "object"}
    for address in tags.addresses:
        assert not re.match(r"\s*(javascript|http|data:text)", address), address
        assert address != "x"


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """Return a workspace where a run has ended on images whose classes have such names."""
    workspace = harness.make_workspace(tmp_path_factory.mktemp("hostile") / "w", PROFILE)
    digits = load_digits()
    for label, name in enumerate(NAMES):
        folder = workspace.root / "images" / os.fsdecode(name)
        folder.mkdir(parents=True)
        for number, image in enumerate(digits.images[digits.target == label][:40]):
            Image.fromarray((image * 15).astype("uint8")).save(folder / f"{number}.png")
    driver = harness.Driver(workspace.root, "run", "small")
    assert driver.wait() == 0, driver.said()
    assert not OBEYED.search(driver.said())
    return workspace


def test_files_hold_nothing_that_is_obeyed(hostile: Workspace) -> None:
    seen = set()
    for path in hostile.results.rglob("*"):
        relative = path.relative_to(hostile.results).as_posix()
        assert re.fullmatch(r"[A-Za-z0-9._/-]+", relative), relative
        if path.suffix in (".md", ".json", ".jsonl", ".yaml", ".html"):
            seen.add(path.suffix)
            assert not OBEYED.search(path.read_text(encoding="utf-8")), relative
        if path.suffix == ".md":
            harmless(MarkdownIt("gfm-like", {"linkify": False}).render(path.read_text()))
    assert {".md", ".json", ".jsonl", ".yaml"} <= seen
    beside = {p.name for p in hostile.root.iterdir() if not p.name.startswith("safedl.db")}
    assert beside == {"images", "profiles", "results"}


def test_commands_print_nothing_that_is_obeyed(
    hostile: Workspace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("SAFEDL_DB", raising=False)
    for command in COMMANDS:
        words = [hostile.experiments()[0] if word == "@" else word for word in command]
        monkeypatch.setattr(sys, "argv", ["safedl", "--workspace", str(hostile.root), *words])
        with pytest.raises(SystemExit) as left:
            cli.main()
        assert left.value.code in (0, 3, None)
        said = capsys.readouterr()
        assert not OBEYED.search(said.out + said.err), command
        if "--json" in command:
            assert [json.loads(line) for line in said.out.splitlines()] if "logs" in command else json.loads(said.out)
    harmless((hostile.results / "final_report.html").read_text())


def test_csv_is_as_it_is_for_programs_and_harmless_on_a_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    output.print_rows([{"name": "\x1b[2J"}], as_csv=True)
    assert capsys.readouterr().out == "name\n\x1b[2J\n"
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    output.print_rows([{"name": "\x1b[2J"}], as_csv=True)
    assert capsys.readouterr().out == "name\n\\x1b[2J\n"


def test_what_is_hostile_can_be_found_again(hostile: Workspace) -> None:
    document = json.loads((hostile.results / "baseline_accuracy.json").read_text())
    names = set(document["class_names"])
    assert names >= {name.decode() for name in NAMES[:3]}
    assert len(names) == len(NAMES)
