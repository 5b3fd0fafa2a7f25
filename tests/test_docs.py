"""README and docs name the methods of the catalog, all of them and no others."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from safedl import catalog
from safedl.catalog.settings import DatasetSettings, ModelSettings
from safedl.data import arrays
from safedl.data.load import TEST_FRACTION, load
from safedl.data.split import trusted_counts
from safedl.defenses import per_class_monitoring, trusted_space
from safedl.models.build import build
from safedl.models.weights import load_weights
from safedl.store.sql import query
from tests.conclusions.measured import ran
from tests.store.samples import Workplace

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
DATA = (ROOT / "docs" / "data.md").read_text(encoding="utf-8")
STORE = (ROOT / "docs" / "store.md").read_text(encoding="utf-8")
QUESTIONS = [q.strip() for q in re.findall(r"^```sql$(.*?)^```$", STORE, re.M | re.S)[0].split(";\n") if q.strip()]
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


def test_the_readme_leads_to_every_page() -> None:
    linked = set(re.findall(r"\]\((docs/[\w/]+\.md)\)", README))
    pages = {path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").glob("*.md")}
    assert linked == pages


@pytest.fixture
def store(tmp_path: Path) -> Path:
    work = Workplace(tmp_path)
    ran(work, seeds=(0,))
    return work.db


@pytest.mark.parametrize("question", QUESTIONS, ids=[q.splitlines()[0] for q in QUESTIONS])
def test_the_questions_of_the_page_on_the_store_are_answered(store: Path, question: str) -> None:
    assert query(store, question).columns


def test_what_no_defense_beats_is_told_of_backdoors_alone(store: Path) -> None:
    (question,) = (q for q in QUESTIONS if "no other one beats" in q)
    found = {(row["attack"], row["defense"]) for row in query(store, question).as_dicts()}
    # Of the third, activation clustering, spectral signatures have the same accuracy and a lower ASR.
    assert found == {("static_patch", "anomaly_detection"), ("static_patch", "spectral_signatures")}


def test_a_detector_stands_between_the_bounds_of_its_own_attack(store: Path) -> None:
    (question,) = (q for q in QUESTIONS if "between its bounds" in q)
    rows = query(store, question).as_dicts()
    assert [row["what"] for row in rows].count("detector") == 1 and len(rows) == 3


def test_the_modules_of_the_page_on_data_are_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, text in re.findall(r"^```python\n# (\w+\.py)$(.*?)^```$", DATA, re.M | re.S):
        (tmp_path / name).write_text(text)
    data = load(DatasetSettings(path="mydata.py"), 0, [tmp_path])
    assert data.shape == (1, 8, 8) and data.classes[:2] == ("zero", "one")
    model = build(ModelSettings(path="net.py", params={"width": 4}), data, 0, [tmp_path])
    assert model.net[0].out_channels == 4 and model.net[-1].out_features == 10  # type: ignore[index]
    monkeypatch.chdir(tmp_path)
    exec(re.findall(r"^```python\n(state = .*?)^```$", DATA, re.M | re.S)[0], {"net": model.net, "torch": torch})
    load_weights(model, tmp_path / "first.pt")
    assert (float(model.mean), float(model.std)) == (0.5, 0.25)
    assert all(f"`{name}`" in DATA for name in arrays.KEYS)
    assert f"{TEST_FRACTION:.0%}".replace("%", " %") in DATA


@pytest.mark.parametrize(("size", "needed"), [(50, trusted_space.FEWEST), (25, per_class_monitoring.FOLDS), (5, 1)])
def test_the_page_on_data_tells_of_which_classes_too_few_images_are_trusted(size: int, needed: int) -> None:
    held = [trusted_counts(torch.zeros(count, dtype=torch.int64), 0.05)[0] for count in (size - 1, size)]
    assert held == [needed - 1, needed]
    assert re.search(rf"fewer than\s{size}\b", DATA)
