"""`risk`, `compare`, `report`, `check`, `note` and named queries, on a store made by hand."""

from __future__ import annotations

import csv
import io
import json
import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from safedl.cli.run import _say_decision
from safedl.workspace import Workspace
from tests.cli.conftest import Safedl
from tests.conclusions.measured import PROFILE, ran, save
from tests.store.samples import Workplace


@pytest.fixture
def work(tmp_path: Path) -> Workplace:
    save(tmp_path)
    return Workplace(tmp_path)


def test_risk_shows_values_reasons_and_advice(work: Workplace, safedl: Safedl) -> None:
    ran(work)
    said = safedl("risk", "small")
    assert said.code == 0
    assert "critical" in said.out or "high" in said.out
    assert "attack not effective" in said.out
    assert "try spectral_signatures: measured on digits / cnn, 2 seeds" in said.out
    assert "no help: anomaly_detection" in said.out
    document = json.loads(safedl("risk", "small", "--json").out)
    assert document["experiment"] == "e1"
    assert list(document["attacks"]) == ["static_patch", "label_flipping"]
    assert document["history"][0]["scores"]["static_patch"] == document["attacks"]["static_patch"]["risk_score"]


def test_risk_writes_into_the_profile_and_keeps_the_rest(work: Workplace, safedl: Safedl, tmp_path: Path) -> None:
    ran(work)
    assert safedl("risk", "small", "--write").code == 0
    text = (tmp_path / "profiles" / "small.yaml").read_text()
    assert text.startswith(PROFILE)
    assert "risk_analysis:" in text.removeprefix(PROFILE)
    assert safedl("risk", "small", "--write").code == 0
    assert (tmp_path / "profiles" / "small.yaml").read_text() == text
    assert safedl("check", "small").code == 0  # the section changes no recipe


def test_a_shipped_profile_is_not_written_to(work: Workplace, safedl: Safedl, monkeypatch: pytest.MonkeyPatch) -> None:
    ran(work)
    elsewhere = work.db.parent / "elsewhere"
    elsewhere.mkdir()
    shipped = save(elsewhere)
    monkeypatch.setattr("safedl.cli.risk.shipped_profiles", lambda: shipped.parent)
    said = safedl("risk", str(shipped), "--write")
    assert said.code == 2
    assert "copy it" in said.err
    assert shipped.read_text() == PROFILE


def test_check_says_go_with_0_and_no_go_with_3(work: Workplace, safedl: Safedl, tmp_path: Path) -> None:
    ran(work)
    go = safedl("check", "small")
    assert (go.code, go.out.splitlines()[-1][:3]) == (0, "GO:")
    assert sum(line.startswith("pass ") for line in go.out.splitlines()) >= 6
    save(tmp_path, PROFILE + "acceptance: {max_asr: 0.01}\n")
    no_go = safedl("check", "small")
    assert no_go.code == 3
    assert "Attack success rate within the threshold: ASR 0.020" in no_go.out
    document = json.loads(safedl("check", "small", "--json").out)
    assert document["verdict"] == "NO-GO"
    failed = [item["id"] for item in document["checklist"] if item["status"] == "fail"]
    assert failed == ["max_asr"]


def test_check_blocks_what_never_ran(safedl: Safedl, tmp_path: Path) -> None:
    save(tmp_path)
    assert safedl("check", "small").code == 3
    assert safedl("risk", "small").code == 4
    assert "safedl run small" in safedl("report", "small").err
    assert safedl("check", "smal").code == 4


def test_notes_settle_and_waive(work: Workplace, safedl: Safedl, tmp_path: Path) -> None:
    ran(work)
    save(tmp_path, PROFILE + "acceptance: {max_asr: 0.01}\n")
    assert "not_simulated.model_stealing" in safedl("note", "small").out
    assert safedl("note", "small", "drift", "--text", "weekly", "--date", "2026-01-31").code == 0
    assert safedl("note", "small", "max_asr", "--text", "x").code == 2
    assert "--owner" in safedl("note", "small", "max_asr", "--waive", "known").err
    assert safedl("note", "small", "drift", "--date", "tomorrow").code == 2
    assert "Did you mean 'drift'" in safedl("note", "small", "drft").err
    nothing = safedl("note", "small", "--text", "weekly", "--owner", "me")
    assert nothing.code == 2 and "name the item" in nothing.err and nothing.out == ""
    assert safedl("check", "small").code == 3
    assert safedl("note", "small", "max_asr", "--waive", "known", "--owner", "me").code == 0
    assert safedl("check", "small").code == 0
    assert "waived by me (known)" in safedl("check", "small").out
    assert safedl("note", "small", "max_asr", "--remove").code == 0
    assert safedl("check", "small").code == 3


def test_compare_as_json(work: Workplace, safedl: Safedl) -> None:
    ran(work)
    said = safedl("compare", "--attack", "static_patch", "--json")
    (ranking,) = json.loads(said.out)
    assert {k: v for k, v in ranking.items() if k not in ("recipe", "entries", "note")} == {
        "dataset": "digits", "model": "cnn", "category": "backdoor", "attack": "static_patch", "effective": True,
        "by": "score.final",
    }  # fmt: skip
    assert [(e["place"], e["defense"], e["kind"], e["pareto"], e["tied_with_best"]) for e in ranking["entries"]] == [
        (1, "spectral_signatures", "defense", True, False),
        (None, "perfect_removal", "bound", False, False),
        (None, "random_removal:activation_clustering", "bound", False, False),
        (None, "random_removal:anomaly_detection", "bound", False, False),
        (None, "random_removal:spectral_signatures", "bound", False, False),
        (2, "activation_clustering", "defense", False, False),
        (None, "none", "attack", False, False),
        (3, "anomaly_detection", "defense", True, False),
    ]
    best = ranking["entries"][0]
    assert best["values"]["asr"] == {"mean": 0.02, "low": 0.02, "high": 0.02, "seeds": 2}
    assert best["deltas"]["asr"]["mean"] == pytest.approx(-0.94)
    assert set(best["values"]) >= {"score.final", "score.mitigation", "score.cad", "score.cost", "clean_accuracy"}
    assert len(best["runs"]) == 2


def test_compare_chooses_the_newest_cell_unless_told(work: Workplace, safedl: Safedl) -> None:
    other = PROFILE.replace("name: small", "name: other").replace("name: digits", "name: mnist")
    ran(work, other, uid="e0", seeds=(0,))
    ran(work)
    said = safedl("compare")
    assert "digits / cnn, as in the newest defense" in said.err
    assert "mnist" not in said.out
    assert "static_patch on digits / cnn" in said.out and "attack not effective" in said.out
    assert {r["dataset"] for r in json.loads(safedl("compare", "--attack", "static_patch", "--json").out)} == {
        "digits", "mnist",
    }  # fmt: skip
    assert {r["dataset"] for r in json.loads(safedl("compare", "--profile", "other", "--json").out)} == {"mnist"}
    assert "nothing to compare" in safedl("compare", "--dataset", "svhn").err
    assert "only the newest 3 runs" in safedl("compare", "--limit", "3").err


def test_compare_as_csv_and_markdown(work: Workplace, safedl: Safedl) -> None:
    ran(work)
    rows = list(csv.DictReader(io.StringIO(safedl("compare", "--csv").out)))
    assert len(rows) == 8 + 2
    best = next(row for row in rows if row["place"] == "1")
    assert (best["defense"], float(best["asr"]), float(best["asr_delta"])) == ("spectral_signatures", 0.02, -0.94)
    markdown = safedl("compare", "--md").out
    assert "## static_patch on digits / cnn" in markdown
    assert "(results/runs/e1-0" in markdown


def test_compare_by_another_metric(work: Workplace, safedl: Safedl) -> None:
    ran(work)
    (ranking,) = json.loads(safedl("compare", "--attack", "static_patch", "--by", "asr", "--json").out)
    assert next(e["defense"] for e in ranking["entries"] if e["place"] == 1) == "anomaly_detection"
    said = safedl("compare", "--by", "clean_acuracy")
    assert said.code == 2
    assert "Did you mean 'clean_accuracy'" in said.err


def test_compare_without_a_store_or_profile(safedl: Safedl, work: Workplace) -> None:
    assert safedl("--db", "none.db", "compare").code == 4
    assert "has not run yet" in safedl("compare", "--profile", "small").err


def test_compare_by_a_file_takes_the_runs_on_its_own_data(work: Workplace, safedl: Safedl, tmp_path: Path) -> None:
    """As `check` does: another profile that reads alike lies beside other data."""
    text = PROFILE.replace("{name: digits}", "{path: d.npz}")
    for project in ("one", "two"):
        (tmp_path / project).mkdir()
        data = save(tmp_path / project, text).with_name("d.npz")
        data.write_text(project)
    ran(work, text)
    plan = work.results / "experiments" / "e1" / "plan.json"
    ran_on = str(tmp_path / "one" / "profiles")
    plan.write_text(json.dumps({**json.loads(plan.read_text()), "folders": [ran_on]}))
    assert "static_patch on d / cnn" in safedl("compare", "--profile", "one/profiles/small.yaml").out
    assert safedl("compare", "--profile", "two/profiles/small.yaml").code == 4


def test_report_goes_where_it_is_told(work: Workplace, safedl: Safedl, tmp_path: Path) -> None:
    ran(work)
    assert Path(safedl("report", "small").out.strip()) == tmp_path / "results" / "final_report.md"
    assert safedl("report", "small", "-o", "r.html").err.startswith("GO")
    assert (tmp_path / "r.html").read_text().startswith("<!DOCTYPE html>")
    assert safedl("report", "small", "-o", "r.txt", "--format", "html").code == 0
    assert (tmp_path / "r.txt").read_bytes() == (tmp_path / "r.html").read_bytes()
    assert safedl("report", "small", "--format", "pdf").code == 2
    assert safedl("report", "small", "-o", str(tmp_path)).code == 2
    pdf = safedl("report", "small", "-o", "r.pdf")
    assert pdf.code == 2 and "ends with .md or .html" in pdf.err and not (tmp_path / "r.pdf").exists()


def test_report_replaces_files_and_nothing_else(work: Workplace, safedl: Safedl, tmp_path: Path) -> None:
    ran(work)
    os.mkfifo(tmp_path / "pipe.md")
    said = safedl("report", "small", "-o", "pipe.md")
    assert said.code == 2 and "pipe.md is no file" in said.err and (tmp_path / "pipe.md").is_fifo()
    (tmp_path / "link.html").symlink_to(tmp_path / "there.html")
    assert safedl("report", "small", "-o", "link.html").out == "link.html\n"
    assert (tmp_path / "link.html").is_symlink() and (tmp_path / "there.html").read_text().startswith("<!")
    (tmp_path / "loop.html").symlink_to(tmp_path / "loop.html")
    assert safedl("report", "small", "-o", "loop.html").code == 0 and (tmp_path / "loop.html").is_file()


def test_report_without_a_completed_attack_says_no_go(work: Workplace, safedl: Safedl, tmp_path: Path) -> None:
    ran(work, seeds=(0,), statuses={"static_patch@0": "cancelled", "label_flipping@0": "failed"})
    said = safedl("report", "small")
    assert said.code == 0 and said.err.startswith("NO-GO")
    text = (tmp_path / "results" / "final_report.md").read_text()
    assert "**NO-GO**" in text and "No attack of this profile has completed" in text
    assert safedl("report", "small", "-o", "r.html").code == 0
    assert safedl("risk", "small").code == 4


def test_a_run_without_a_completed_attack_ends_with_its_verdict(
    work: Workplace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    profile = ran(work, seeds=(0,), statuses={"static_patch@0": "failed", "label_flipping@0": "failed"})
    prepared = SimpleNamespace(request=SimpleNamespace(profile=profile))
    _say_decision(Workspace(tmp_path, work.db), prepared)  # type: ignore[arg-type]
    said = capsys.readouterr().err
    assert f"report: {tmp_path / 'results' / 'final_report.md'}" in said
    assert "\nNO-GO: " in said


def test_named_queries(work: Workplace, safedl: Safedl) -> None:
    ran(work)
    listed = json.loads(safedl("sql", "--list", "--json").out)
    assert {"winners", "sweep", "pareto"} <= {row["name"] for row in listed}
    (winner,) = json.loads(safedl("sql", "--named", "winners", "-p", "dataset=digits", "--json").out)
    assert winner["defense"] == "spectral_signatures"
    assert json.loads(safedl("sql", "SELECT :a + 1 AS b", "-p", "a=2", "--json").out) == [{"b": 3}]
    assert safedl("sql", "--named", "winner").code == 4
    for wrong in (["--named", "pareto"], ["--named", "winners", "-p", "x"], ["SELECT 1", "--list"], []):
        assert safedl("sql", *wrong).code == 2


def test_rescoring_what_is_scored_changes_nothing(work: Workplace, safedl: Safedl) -> None:
    ran(work)
    assert "0 runs have other scores now" in safedl("db", "rescore").err
    scores = safedl("sql", "SELECT * FROM metric WHERE name GLOB 'score.*'", "--csv").out
    work.recorder.close()
    assert safedl("db", "reindex").code == 0
    query = "SELECT r.uid, m.name, m.value FROM metric m JOIN run r ON r.id = m.run_id WHERE m.name GLOB 'score.*'"
    assert len(safedl("sql", query, "--csv").out.splitlines()) == len(scores.splitlines())
