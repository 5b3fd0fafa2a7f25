"""A run's folder, and what is published of it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from safedl import catalog, reports
from safedl.catalog import DefenseSpec, Params
from safedl.errors import UsageError
from safedl.reports.outcome import Outcome
from safedl.reports.result import example_key
from tests.reports import samples

TRIGGER: dict[str, Any] = {"trigger": np.ones((1, 4, 4)), "trigger_mask": np.eye(4)[None]}
FOLDERS = {
    "data_cleaning": ("label_flipping", "cleaned_examples", ""),
    "provenance_tracking": ("clean_label", "provenance_examples", ""),
    "influence_functions": ("clean_label", "influence_examples", ""),
    "activation_clustering": ("static_patch", "activation_removed", ""),
    "spectral_signatures": ("learned_trigger", "", "spectral_histograms"),
    "model_inspection": ("static_patch", "", "inspection_histograms"),
}


@pytest.fixture(autouse=True)
def _known(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, (attack, examples, histograms) in FOLDERS.items():
        spec = DefenseSpec(
            name, "detect", name, "", "", Params, (attack,), "", examples=examples, histograms=histograms
        )
        monkeypatch.setitem(catalog.DEFENSES, name, spec)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def publish(folder: Path, results: Path, outcome: Outcome, **rest: Any) -> Path:
    reports.write(folder, outcome)
    reports.publish(folder, results, outcome.kind, outcome.category, outcome.attack, outcome.defense, **rest)
    return results / str(outcome.category) / str(outcome.attack)


def check_links(report: Path) -> list[str]:
    """Return the images that a report links to; all must exist."""
    paths = re.findall(r"!\[[^\n]*?\]\(([^)]*)\)", report.read_text())
    assert all((report.parent / path).is_file() for path in paths)
    return paths


def test_weights_are_on_the_disk_before_a_result_speaks_of_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = tmp_path / "files" / "model.pt"
    weights.parent.mkdir()
    weights.write_bytes(b"weights")
    synced: list[tuple[str, bool]] = []

    def fsync(descriptor: int) -> None:
        name = Path(f"/proc/self/fd/{descriptor}").readlink()
        synced.append((str(name), (tmp_path / "result.json").exists()))

    monkeypatch.setattr("os.fsync", fsync)
    reports.write(tmp_path, samples.detector())
    assert (str(weights), False) in synced


def test_a_runs_folder(tmp_path: Path) -> None:
    document = reports.write(tmp_path, samples.detector(histograms={"../conv.0": np.arange(9.0)}))
    assert list(contents(tmp_path)) == [
        "examples/01_sample_1.png", "examples/02_sample_3.png",
        "histograms/00_conv.0.png", "histograms/01_cat.png", "histograms/02_dog.png", "histograms/03_eel.png",
        "report.md", "result.json",
    ]  # fmt: skip
    assert json.loads((tmp_path / "result.json").read_text()) == document
    assert len(check_links(tmp_path / "report.md")) == 6


def test_the_result_is_written_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: object) -> str:
        raise RuntimeError

    monkeypatch.setattr("safedl.reports.writer.render", broken)
    with pytest.raises(RuntimeError):
        reports.write(tmp_path, samples.detector())
    assert not (tmp_path / "result.json").exists()


def test_only_uid_and_timing_differ_between_runs(tmp_path: Path) -> None:
    first, second = tmp_path / "a", tmp_path / "b"
    reports.write(first, samples.attack(**TRIGGER))
    reports.write(second, samples.attack(uid="run-2", timing={"seconds": 77.0}, **TRIGGER))
    one, two = contents(first), contents(second)
    documents = [json.loads(files.pop("result.json")) for files in (one, two)]
    assert one == two
    assert documents[0].pop("timing") != documents[1].pop("timing")
    assert documents[0].pop("uid") != documents[1].pop("uid")
    assert documents[0] == documents[1]


@pytest.mark.parametrize("channels", [1, 3])
def test_trigger_images_are_published(tmp_path: Path, channels: int) -> None:
    trigger: dict[str, Any] = {"trigger": np.ones((channels, 4, 4)), "trigger_mask": np.eye(4)[None]}
    outcome = samples.attack("learned_trigger", examples=samples.examples(channels), **trigger)
    folder = publish(tmp_path / "run", tmp_path / "results", outcome)
    assert list(contents(folder)) == [
        "examples/01_sample_1.png", "examples/02_sample_3.png", "learned_trigger_metrics.json",
        "learned_trigger_report.md", "mask.png", "overlay.png", "trigger.png",
    ]  # fmt: skip
    assert len(check_links(folder / "learned_trigger_report.md")) == 5


def test_a_trigger_without_examples(tmp_path: Path) -> None:
    reports.write(tmp_path, samples.attack(examples=(), **TRIGGER))
    assert (tmp_path / "overlay.png").is_file()


def test_the_baseline(tmp_path: Path) -> None:
    publish(tmp_path / "run", tmp_path / "results", samples.baseline())
    assert list(contents(tmp_path / "results")) == ["baseline_accuracy.json"]
    assert json.loads((tmp_path / "results" / "baseline_accuracy.json").read_text())["overall_accuracy"] == 0.98


@pytest.mark.parametrize("name", FOLDERS)
def test_defenses_stand_where_they_are_looked_for(tmp_path: Path, name: str) -> None:
    attack, examples, histograms = FOLDERS[name]
    category = catalog.ATTACKS[attack].category
    folder = publish(tmp_path / "run", tmp_path / "results", samples.detector(name, attack, category=category))
    document = json.loads((folder / f"{name}_results.json").read_text())
    assert len(check_links(folder / f"{name}_report.md")) == 5
    for entry in (*document["example_removed"], *document["histograms"]):
        assert (folder / entry["path"]).is_file()
    assert (folder / document["histogram_path"]).is_dir()
    if examples:
        assert len(list((folder / examples).glob("*.png"))) == 2
    if histograms:
        assert document["histogram_path"] == histograms


def test_folders_exist_even_when_nothing_was_removed(tmp_path: Path) -> None:
    outcome = samples.detector("data_cleaning", flagged=samples.FLAGGED & False, examples=(), scores=None)
    folder = publish(tmp_path / "run", tmp_path / "results", outcome)
    assert list((folder / "cleaned_examples").iterdir()) == []
    document = json.loads((folder / "data_cleaning_results.json").read_text())
    assert (document["num_removed"], document["removed_indices"], document["example_removed"]) == (0, [], [])


def test_publishing_again_replaces_what_was_there(tmp_path: Path) -> None:
    results = tmp_path / "results"
    publish(tmp_path / "one", results, samples.detector("data_cleaning"))
    other = publish(tmp_path / "other", results, samples.detector("activation_clustering"))
    untouched = contents(other / "activation_removed")
    fewer = samples.detector("data_cleaning", examples=samples.examples()[1:], classes=("cat", "fox", "eel"))
    folder = publish(tmp_path / "two", results, fewer)
    assert list(contents(folder / "cleaned_examples")) == ["01_sample_3.png"]
    assert list(contents(folder / "data_cleaning_histograms")) == ["00_cat.png", "01_fox.png", "02_eel.png"]
    assert contents(other / "activation_removed") == untouched
    check_links(folder / "data_cleaning_report.md")
    before = contents(results)
    reports.publish(tmp_path / "two", results, "defense", "backdoor", "static_patch", "data_cleaning")
    assert contents(results) == before


def test_bounds_known_later_are_published(tmp_path: Path) -> None:
    bounds = {"perfect_removal": {"clean_accuracy": 0.979, "tpr": np.float64(1.0)}}
    folder = publish(tmp_path / "run", tmp_path / "results", samples.detector(), bounds=bounds)
    document = json.loads((folder / "spectral_signatures_results.json").read_text())
    assert document["bounds"] == {"perfect_removal": {"clean_accuracy": 0.979, "tpr": 1.0}}
    assert "Perfect removal |" in (folder / "spectral_signatures_report.md").read_text()
    assert json.loads((tmp_path / "run" / "result.json").read_text())["bounds"] == {}


def test_bounds_themselves_are_not_published(tmp_path: Path) -> None:
    publish(tmp_path / "run", tmp_path / "results", samples.detector("perfect_removal", kind="bound"))
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize(
    ("category", "attack", "defense"),
    [
        ("..", "static_patch", "data_cleaning"),
        ("backdoor", "../x", "data_cleaning"),
        ("backdoor", "static_patch", "/x"),
    ],
)
def test_unknown_names_are_no_paths(tmp_path: Path, category: str, attack: str, defense: str) -> None:
    reports.write(tmp_path / "run", samples.detector())
    with pytest.raises(UsageError, match="unknown"):
        reports.publish(tmp_path / "run", tmp_path / "results", "defense", category, attack, defense)
    assert not (tmp_path / "results").exists()


def test_nothing_here_loads_torch_or_pyplot() -> None:
    code = (
        "import sys, safedl.reports; early = {'numpy', 'matplotlib', 'PIL'} & set(sys.modules)\n"
        "import safedl.reports.images, safedl.reports.plots\n"
        "print(early | {'torch', 'sklearn', 'opacus', 'matplotlib.pyplot'} & set(sys.modules))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "set()"


def test_example_keys_differ_by_kind() -> None:
    keys = [
        example_key({"kind": kind, "category": category, "attack": attack})
        for kind, category, attack in (
            ("attack", "data_poisoning", "label_flipping"),
            ("attack", "backdoor", "static_patch"),
            ("attack", "evasion", "pgd"),
            ("defense", "backdoor", "static_patch"),
        )
    ]
    assert keys == ["example_flips", "example_poisoned_samples", "example_adversarial_samples", "example_removed"]
