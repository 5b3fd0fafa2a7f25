"""A driver ends by writing risk, comparison and report."""

from __future__ import annotations

import signal

import pytest

from safedl.conclusions.gather import conclude
from safedl.evaluation.scores import score
from safedl.events import Event
from safedl.pipeline.driver import PUBLISHING
from safedl.profile.load import parse
from safedl.store.sql import query
from safedl.workspace import Workspace
from tests.conclusions.test_write import DOCUMENTS, links, load
from tests.pipeline.conftest import PROFILE, Drive


def test_documents_agree_with_the_store(workspace: Workspace, run: Drive) -> None:
    driven = run()
    results = workspace.results
    for name in DOCUMENTS:
        assert (results / name).is_file()
        assert all((results / a).exists() for a in links((results / name).read_text()) if name.endswith(".md"))
    evaluation = load(results / "defense_evaluation.json")
    rows = query(workspace.db, "SELECT * FROM defense_results").as_dicts()
    assert {row["defense"] for row in rows} == {"robust_loss", "activation_clustering"}
    for row in rows:
        stated = evaluation[row["threat"]][row["attack"]][row["defense"]]
        for key, column in {"final": "score", "mitigation": "mitigation", "cad": "cad", "cost": "cost"}.items():
            assert stated[key] == row[column]
        assert stated["clean_accuracy"] == row["clean_after"]
        assert stated.get("asr") == row["asr_after"]
        assert stated["runs"] == [row["uid"]]
    risks = load(results / "risk_analysis.json")
    for row in query(workspace.db, "SELECT attack, asr, clean_before, clean_after FROM attack_results").as_dicts():
        fell = row["clean_before"] - row["clean_after"]
        severity = fell / 0.3 if row["asr"] is None else row["asr"] + max(0.0, fell)
        assert risks[row["attack"]]["severity"] == pytest.approx(min(max(severity, 0.0), 1.0))
    assert driven.code == 0


def test_scores_follow_from_the_files(workspace: Workspace, run: Drive) -> None:
    run(attacks=("static_patch",))
    path = workspace.results / "backdoor" / "static_patch" / "activation_clustering_results.json"
    document = load(path)
    seconds = {"seconds": load(workspace.results / "baseline_accuracy.json")["timing"]["seconds"]}
    own = {**document["metrics"], "seconds": document["timing"]["seconds"]}
    expected = score("asr", {**document["baseline"], **seconds}, document["before"], own)
    (row,) = query(workspace.db, "SELECT mitigation, cad, cost, score FROM defense_results").rows
    assert row == (expected.mitigation, expected.cad, expected.cost, expected.final)


def test_a_restricted_run_says_what_is_missing(workspace: Workspace, run: Drive) -> None:
    run(attacks=("label_flipping",))
    report = (workspace.results / "final_report.md").read_text()
    assert "not completed: static_patch@0" in report
    run()
    assert "not completed" not in (workspace.results / "final_report.md").read_text()
    assert "7 of 7 planned runs completed" in (workspace.results / "final_report.md").read_text()


def test_a_cancelled_run_reports_what_there_is(workspace: Workspace, run: Drive) -> None:
    def interrupt(item: Event) -> None:
        if item["event"] == "result" and "asr" in item["metrics"]:
            signal.raise_signal(signal.SIGINT)

    stopped = run(interrupt, workers=1)
    assert stopped.code == 130
    found = conclude(workspace.db, workspace.results, parse(PROFILE))
    assert found.facts.outcomes and not found.decision.go
    assert "static_patch" in load(workspace.results / "risk_analysis.json")


def test_a_run_without_a_completed_attack_replaces_an_older_decision(workspace: Workspace, run: Drive) -> None:
    report = workspace.results / "final_report.md"
    report.parent.mkdir(parents=True)
    report.write_text("**GO**\n")

    def interrupt(item: Event) -> None:
        if item["event"] == "run" and item["status"] == "running":
            signal.raise_signal(signal.SIGINT)

    assert run(interrupt, workers=1).code == 130
    assert "**NO-GO**" in report.read_text()
    assert load(workspace.results / "risk_analysis.json") == {}


def test_a_fault_in_the_report_loses_no_run(workspace: Workspace, run: Drive, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError("planted")

    monkeypatch.setattr("safedl.pipeline.driver.write", fail)
    driven = run(attacks=("label_flipping",))
    assert driven.code == 1
    assert set(driven.statuses().values()) == {"completed"}
    (said,) = [e for e in driven.events if e["event"] == "log" and e["level"] == "error"]
    assert "ZeroDivisionError: planted" in said["message"]
    assert driven.events[-1]["status"] == "completed"


def test_a_fault_in_publishing_loses_no_score(workspace: Workspace, run: Drive) -> None:
    workspace.results.mkdir(exist_ok=True)
    (workspace.results / "data_poisoning").write_text("a file in the way")
    driven = run(attacks=("label_flipping",))
    assert driven.code == 1 and driven.events[-1]["status"] == "completed"
    (said,) = [e for e in driven.events if e["event"] == "log" and e["level"] == "error"]
    assert "results were not published: NotADirectoryError" in said["message"]
    assert query(workspace.db, "SELECT count(*) FROM defense_results WHERE score IS NOT NULL").rows == [(1,)]
    assert (workspace.results / "final_report.md").is_file()


def test_an_experiment_ends_though_the_lock_of_what_is_shared_cannot_be_taken(workspace: Workspace, run: Drive) -> None:
    (workspace.results / PUBLISHING).mkdir(parents=True)
    driven = run(attacks=("label_flipping",), defenses=("robust_loss",))
    assert driven.code == 1 and driven.events[-1]["status"] == "completed"
    (said,) = [e for e in driven.events if e["event"] == "log" and e["level"] == "error"]
    assert "nor a report written: IsADirectoryError" in said["message"]
