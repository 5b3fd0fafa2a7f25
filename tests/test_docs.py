"""README and docs name the methods of the catalog, all of them and no others."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from safedl import catalog

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
ATTACKS = (ROOT / "docs" / "attacks.md").read_text(encoding="utf-8")
NUMBERS = {"nine": 9, "ten": 10, "eleven": 11, "twelve": 12, "sixteen": 16, "seventeen": 17, "eighteen": 18}


def test_the_page_of_attacks_names_every_attack_and_no_other() -> None:
    headings = re.findall(r"^## (\w+)$", ATTACKS, re.MULTILINE)
    table = re.findall(r"^\| `(\w+)` \|", ATTACKS, re.MULTILINE)
    assert sorted(headings + table) == sorted(catalog.ATTACKS)


def test_every_defense_has_a_page_and_every_page_a_defense() -> None:
    pages = {path.stem: path.read_text(encoding="utf-8") for path in (ROOT / "docs" / "defenses").glob("*.md")}
    assert sorted(pages) == sorted(catalog.DEFENSES)
    assert [name for name, text in pages.items() if not text.startswith(f"# {name}\n")] == []


def test_the_readme_names_every_defense_and_no_other() -> None:
    paragraph = README.split("\nThe defenses: ", 1)[1].split("\n\n", 1)[0]
    assert sorted(re.findall(r"`(\w+)`", paragraph)) == sorted(catalog.DEFENSES)


@pytest.mark.parametrize(
    ("sentence", "count"),
    [
        (r"\| 4 defenses \| (\w+), from the papers", len(catalog.DEFENSES)),
        (r"; (\w+) attacks at test time", sum(spec.category == "evasion" for spec in catalog.ATTACKS.values())),
    ],
)
def test_the_readme_counts_methods(sentence: str, count: int) -> None:
    found = re.search(sentence, README)
    assert found is not None
    assert NUMBERS.get(found[1]) == count
