from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from safedl.errors import NotFoundError
from safedl.profile.document import read
from safedl.profile.load import load
from safedl.profile.problems import ProfileError
from safedl.profile.save import dump, update
from tests.profile.conftest import PUBLISHED, SHIPPED
from tests.profile.test_document import documents, values

COMMENTED = """\
# What this is about.
company: {owner: "Ann", since: 2020-01-01}   # nobody else's business
name: camera
dataset:
  name: digits   # small
model: {name: cnn}
answer: yes
rate: 1e-5

risk_analysis:
  summary:
    # the worst one
    static_patch: {risk_score: 1.5}
attack_overrides:
  backdoor:
    static_patch:
      target_class: 1 # one
      patch_size_ratio: 0.25
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "camera.yaml"
    file.write_text(COMMENTED)
    return file


def test_a_change_touches_nothing_else(path: Path) -> None:
    attacks = {"backdoor": {"static_patch": {"target_class": 3, "patch_size_ratio": 0.25}}}
    profile = update(path, {"attack_overrides": attacks})
    assert profile.attacks[0].params.model_dump()["target_class"] == 3
    assert path.read_text() == COMMENTED.replace("target_class: 1 # one", "target_class: 3 # one")


def test_what_nobody_changed_stays_to_the_letter(tmp_path: Path) -> None:
    long = " ".join(f"word{i}" for i in range(40))
    path = tmp_path / "p.yaml"
    head = f"""# {long}
name: p   # {long}
plain: {long}
quoted: "{long}"
list:
  - {long}
several: one two
  three four
folded: >
  one {long}
  two
odd:   {{ a: 1,   b: 2 }}
company: {{owner: Ann, notes: [{", ".join(map(str, range(80)))}]}}   # ours
attack_overrides:
  backdoor:
    static_patch: {{target_class: 1}}   # {long}
"""
    end = "# after it\nrate:   1e-5"
    path.write_text(head + "risk_analysis: {}\n" + end)
    update(path, {"risk_analysis": {"summary": {"static_patch": {"severity": 1.0}}}})
    section = "risk_analysis:\n  summary:\n    static_patch:\n      severity: 1.0\n"
    assert path.read_text() == head + section + end + "\n"
    update(path, {"attack_overrides": {"backdoor": {"static_patch": {"target_class": 2}}}})
    changed = head.replace("target_class: 1", "target_class: 2")
    assert path.read_text() == changed + section + end + "\n"


@pytest.mark.parametrize(
    ("change", "changed"),
    [
        (None, ""),
        ({}, "risk_analysis: {}\n"),
        ({"a": 1}, "risk_analysis:\n  a: 1\n"),
        ({"a": 1, "b": [3]}, "risk_analysis:\n  a: 1\n  b: [3]\n"),
    ],
)
def test_what_heads_the_next_section_stays(tmp_path: Path, change: Any, changed: str) -> None:
    path, head, end = (
        tmp_path / "p.yaml",
        "name: p\n# risks\n\n",
        "\n# --- threats\n# ours\nthreat_model: {}\n# the end\n",
    )
    path.write_text(head + "risk_analysis:\n  a: 1\n  b:\n    - 2\n" + end)
    update(path, {"risk_analysis": change})
    assert path.read_text() == head + changed + end


@pytest.mark.parametrize("after", ["acceptance: {max_asr: 0.2}\n", ""])
def test_what_is_added_stands_above_what_follows(tmp_path: Path, after: str) -> None:
    path, end = tmp_path / "p.yaml", f"\n# What must hold.\n{after}"
    path.write_text("name: p\ntraining:\n  epochs: 3 # few\n" + end)
    update(path, {"training": {"epochs": 3, "seed": 1}})
    assert path.read_text() == "name: p\ntraining:\n  epochs: 3 # few\n  seed: 1\n" + end


def test_a_section_is_added_below_the_last_comment(tmp_path: Path) -> None:
    path = tmp_path / "p.yaml"
    path.write_text("name: p\ntraining: {epochs: 3}\n# training: {epochs: 30}\n")
    update(path, {"threat_model": {"a": 1}})
    assert path.read_text() == "name: p\ntraining: {epochs: 3}\n# training: {epochs: 30}\nthreat_model:\n  a: 1\n"


def test_line_ends_stay(path: Path) -> None:
    path.write_bytes(COMMENTED.replace("\n", "\r\n").encode())
    update(path, {"rate": 2})
    assert path.read_bytes() == COMMENTED.replace("1e-5", "2").replace("\n", "\r\n").encode()


def test_keys_that_the_parsers_read_differently_may_go(tmp_path: Path) -> None:
    path = tmp_path / "p.yaml"
    path.write_text("name: p\nthreat_model: {yes: 1, 010: 2, a: 3}\n")
    update(path, {"threat_model": {"a": 3}})
    assert read(path.read_text(), "p") == {"name": "p", "threat_model": {"a": 3}}


@pytest.mark.parametrize("indent", ["  ", "    "])
@pytest.mark.parametrize("dash", ["", "  "])
def test_a_files_own_indentation_stays(tmp_path: Path, indent: str, dash: str) -> None:
    path = tmp_path / "p.yaml"
    text = (
        f"name: p\nx:\n{indent}a: 1 # one\n{indent}b:\n{indent}{dash}- c\n{indent}{dash}- d\nthreat_model: {{a: 1}}\n"
    )
    path.write_text(text)
    update(path, {"threat_model": {"a": 2}})
    assert path.read_text() == text.replace("{a: 1}", "{a: 2}")


def test_new_sections_come_last_and_removed_ones_go(path: Path) -> None:
    before = list(read(COMMENTED, "p"))
    update(path, {"acceptance": {"max_asr": 1e-6}, "risk_analysis": None})
    after = read(path.read_text(), "p")
    assert list(after) == [*(key for key in before if key != "risk_analysis"), "acceptance"]
    assert after["acceptance"] == {"max_asr": 1e-6}
    assert after["answer"] is True and after["company"] == {"owner": "Ann", "since": "2020-01-01"}
    assert "# nobody else's business" in path.read_text()


def test_an_invalid_change_leaves_the_file_alone(path: Path) -> None:
    with pytest.raises(ProfileError, match="max_asr: 7 is not allowed"):
        update(path, {"acceptance": {"max_asr": 7}})
    assert path.read_text() == COMMENTED
    assert [p.name for p in path.parent.iterdir()] == ["camera.yaml"]


def test_a_missing_file_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError):
        update(tmp_path / "x.yaml", {"name": "x"})
    assert not list(tmp_path.iterdir())


def test_a_link_stays_a_link(path: Path, tmp_path: Path) -> None:
    link = tmp_path / "link.yaml"
    link.symlink_to(path)
    update(link, {"name": "other"})
    assert link.is_symlink() and load(path).name == "other"


def test_shared_values_change_in_one_place_only(tmp_path: Path) -> None:
    path = tmp_path / "p.yaml"
    path.write_text("name: p\nextra: &x {a: 1, b: 2}\nthreat_model: *x\n")
    update(path, {"threat_model": {"a": 1, "b": 3}})
    assert read(path.read_text(), "p") == {"name": "p", "extra": {"a": 1, "b": 2}, "threat_model": {"a": 1, "b": 3}}


@pytest.mark.parametrize("file", [*PUBLISHED.glob("*.yaml"), *SHIPPED.glob("*.yaml")], ids=lambda p: p.stem)
def test_results_can_be_written_into_any_profile(file: Path, tmp_path: Path) -> None:
    copy = tmp_path / file.name
    copy.write_text(file.read_text())
    old = read(file.read_text(), "p")
    risk = {"summary": {"static_patch": {"severity": 0.5, "risk_score": 1.0}}, "recommendations": {}}
    update(copy, {"risk_analysis": risk})
    new = read(copy.read_text(), "p")
    assert new == {**old, "risk_analysis": risk}
    assert list(new) == list({**old, "risk_analysis": risk})
    comments = [line.split("#")[1] for line in file.read_text().splitlines() if "#" in line]
    assert all(comment in copy.read_text() for comment in comments)


@given(unknown=documents, change=values)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_unknown_sections_keep_content_and_order(path: Path, unknown: dict[str, Any], change: Any) -> None:
    document = {**{f"x{key}": value for key, value in unknown.items()}, "name": "p", "x-last": {"a": [1]}}
    path.write_text(dump(document, "what\nthis is"), encoding="utf-8")
    update(path, {"threat_model": {"note": change}})
    after = read(path.read_text(encoding="utf-8"), "p")
    assert repr(after) == repr({**document, "threat_model": {"note": change}})
