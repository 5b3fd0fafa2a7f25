from __future__ import annotations

import csv
import json
import os
import signal
import sqlite3
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest
import typer
from filelock import FileLock
from typer.testing import CliRunner

from safedl.cli import db, main, runs, sql
from safedl.errors import SafedlError
from safedl.events import event
from safedl.workspace import Workspace
from tests.store import samples
from tests.store.samples import Workplace

app = typer.Typer()
app.command("sql", cls=sql.CommentedQuery)(sql.sql)
app.add_typer(db.app, name="db")
app.add_typer(runs.app, name="runs")


@dataclass(frozen=True)
class Done:
    code: int
    out: str
    err: str


Call = Callable[..., Done]


@pytest.fixture
def safedl(tmp_path: Path) -> Call:
    def call(*arguments: str, stdin: str = "") -> Done:
        result = CliRunner().invoke(app, arguments, obj=Workspace.open(tmp_path, tmp_path / "safedl.db"), input=stdin)
        if isinstance(result.exception, SafedlError):
            return Done(result.exception.exit_code, result.stdout, f"error: {result.exception}")
        assert result.exception is None or isinstance(result.exception, SystemExit)
        return Done(result.exit_code, result.stdout, result.stderr)

    return call


@pytest.fixture
def work(tmp_path: Path) -> Iterator[Workplace]:
    """An experiment whose detector failed; its driver is alive."""
    workplace = Workplace(tmp_path)
    workplace.begin(samples.experiment(), samples.tree())
    for uid in ("base", "attack", "perfect"):
        workplace.apply(samples.finished(uid, {"clean_accuracy": 0.9, "asr": float("nan")}))
    workplace.apply(samples.finished("clean", {}, "failed", "it broke"))
    with FileLock(workplace.results / "experiments" / "e1" / "driver.lock"):
        yield workplace
    workplace.recorder.close()


def test_sql_prints_a_table_json_or_csv(work: Workplace, safedl: Call) -> None:
    query = "SELECT kind, count(*) AS n, max(error) AS error FROM run GROUP BY kind ORDER BY kind"
    table = safedl("sql", query)
    assert "baseline" in table.out
    assert "it broke" in table.out
    assert json.loads(safedl("sql", "-", "--json", stdin=query).out)[3] == {
        "kind": "defense",
        "n": 1,
        "error": "it broke",
    }
    lines = list(csv.DictReader(safedl("sql", query, "--csv").out.splitlines()))
    assert lines[1] == {"kind": "baseline", "n": "1", "error": ""}


def test_sql_takes_a_statement_that_begins_with_a_comment(work: Workplace, safedl: Call) -> None:
    done = safedl("sql", "-- How many?\nSELECT count(*) AS n FROM run", "--csv")
    assert (done.code, done.out) == (0, "n\n5\n"), done.err
    assert safedl("sql", "--nosuch").code == 2


def test_sql_says_what_it_does_not_show(work: Workplace, safedl: Call) -> None:
    cut = safedl("sql", "SELECT uid FROM run", "--limit", "2", "--json")
    assert len(json.loads(cut.out)) == 2
    assert "truncated" in cut.err
    none = safedl("sql", "SELECT uid, kind FROM run WHERE 0", "--csv")
    assert (none.out, none.err) == ("uid,kind\n", "no rows\n")
    assert safedl("sql", "SELECT 1 WHERE 0", "--json").out == "[]\n"


def test_sql_only_reads(work: Workplace, safedl: Call) -> None:
    for query in ("DELETE FROM run", "SELECT 1; SELECT 2", "SELECT nothing FROM run"):
        done = safedl("sql", query)
        assert (done.code, done.out, len(done.err.splitlines())) == (2, "", 1)
    slow = "WITH RECURSIVE t(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM t) SELECT max(x) FROM t"
    assert "longer than 0.1 s" in safedl("sql", slow, "--timeout", "0.1").err


def test_sql_is_interrupted_by_ctrl_c(work: Workplace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def press(*_: object) -> tuple[str, dict[str, object]]:
        threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
        return "WITH RECURSIVE t(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM t) SELECT max(x) FROM t", {}

    monkeypatch.setattr(sql, "_asked", press)
    monkeypatch.setattr(sys, "argv", ["safedl", "--workspace", str(tmp_path), "sql", "SELECT 1", "--timeout", "60"])
    before, begun = signal.getsignal(signal.SIGINT), time.monotonic()
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 130 and time.monotonic() - begun < 30
    assert signal.getsignal(signal.SIGINT) is before


def test_without_a_store(safedl: Call, tmp_path: Path) -> None:
    for command in (("sql", "SELECT 1"), ("runs", "ls"), ("runs", "show", "x"), ("db", "check"), ("db", "backup")):
        done = safedl(*command)
        assert (done.code, done.out) == (4, "")
        assert "no store yet at" in done.err and "safedl db reindex" in done.err
    info = safedl("db", "info", "--json")
    assert (info.code, json.loads(info.out)["exists"]) == (0, False)
    assert safedl("db", "path").out == f"{tmp_path / 'safedl.db'}\n"
    assert list(tmp_path.iterdir()) == []


def test_runs_ls(work: Workplace, safedl: Call) -> None:
    assert safedl("runs", "ls", "-q").out.split() == ["random", "perfect", "clean", "attack", "base"]
    assert safedl("runs", "ls", "--status", "failed", "--quiet").out == "clean\n"
    assert safedl("runs", "ls", "--kind", "bound", "--limit", "1", "-q").out == "random\n"
    assert safedl("runs", "ls", "--kind", "scan", "-q").out == ""
    assert safedl("runs", "ls", "--experiment", "e1", "--attack", "static_patch", "-q").out.count("\n") == 4
    assert "no such runs" in safedl("runs", "ls", "--attack", "learned").err  # as profiles may call it
    assert safedl("runs", "ls", "--defense", "random_removal", "-q").out == "random\n"
    assert "no such runs" in safedl("runs", "ls", "--dataset", "svhn").err
    (failed,) = json.loads(safedl("runs", "ls", "--defense", "data_cleaning", "--json").out)
    assert (failed["uid"], failed["status"], failed["error"], failed["parent"]) == (
        "clean",
        "failed",
        "it broke",
        "attack",
    )
    (base,) = csv.DictReader(safedl("runs", "ls", "--kind", "baseline", "--csv").out.splitlines())
    assert (base["uid"], base["clean_accuracy"], base["asr"]) == ("base", "0.9", "")
    assert "data_cleaning" in safedl("runs", "ls").out


@pytest.mark.parametrize("arguments", [("--status", "complete"), ("--kind", "defence")])
def test_runs_ls_refuses_unknown_values(work: Workplace, safedl: Call, arguments: tuple[str, str]) -> None:
    done = safedl("runs", "ls", *arguments)
    assert done.code == 2
    assert "Did you mean" in done.err


def test_runs_show(work: Workplace, safedl: Call) -> None:
    (work.results / "runs" / "clean" / "images").mkdir()
    (work.results / "runs" / "clean" / "images" / "a.png").touch()
    shown = json.loads(safedl("runs", "show", "clea", "--json").out)
    assert shown["record"]["params"]["training.epochs"] == 3
    assert (shown["status"], shown["error"]) == ("failed", "it broke")
    assert [line["message"] for line in shown["log"]] == ["running", "failed: it broke"]
    assert shown["files"] == ["config.yaml", "events.jsonl", "images/a.png", "result.json"]
    assert json.loads(safedl("runs", "show", "base", "--json").out)["metrics"] == {"asr": None, "clean_accuracy": 0.9}
    text = safedl("runs", "show", "clean").out
    for part in ("static_patch", "it broke", "training.epochs", "images/a.png"):
        assert part in text
    assert safedl("runs", "show", "zzz").code == 4
    assert "several runs" in safedl("runs", "show", "a").err


def test_listing_notices_a_dead_driver(tmp_path: Path, safedl: Call) -> None:
    work = Workplace(tmp_path)
    work.begin(samples.experiment(), [samples.run("r1")])
    work.apply([event("run", "r1", status="running")])
    work.recorder.close()
    done = safedl("runs", "ls", "--json")
    assert json.loads(done.out)[0]["status"] == "interrupted"
    assert "r1" in done.err


def test_db_upgrade_check_and_backup(tmp_path: Path, safedl: Call) -> None:
    assert safedl("db", "upgrade").code == 0
    assert safedl("db", "check").code == 0
    copy = Path(safedl("db", "backup").out.strip())
    assert copy.parent == tmp_path
    assert copy.read_bytes()[:15] == b"SQLite format 3"
    again = safedl("db", "backup", str(copy))
    assert again.code == 2 and "exists already" in again.err
    with closing(sqlite3.connect(tmp_path / "safedl.db")) as connection:
        connection.execute("DROP VIEW leaderboard")
    broken = safedl("db", "check")
    assert (broken.code, broken.out) == (3, "view leaderboard is missing; `safedl db upgrade` makes it\n")
    safedl("db", "upgrade")
    assert safedl("db", "check").code == 0


def test_db_info(work: Workplace, safedl: Call) -> None:
    facts = json.loads(safedl("db", "info", "--json").out)
    assert (facts["exists"], facts["runs"], facts["runs failed"], facts["experiments"]) == (True, 5, 1, 1)
    assert "schema" in safedl("db", "info").out


def test_db_reindex(work: Workplace, safedl: Call) -> None:
    assert safedl("db", "reindex").code == 5
    assert safedl("db", "upgrade").code == 5
    (work.results / "experiments" / "e1" / "driver.lock").unlink()
    work.recorder.close()
    work.db.unlink()
    (work.results / "runs" / "perfect" / "config.yaml").unlink()
    done = safedl("db", "reindex")
    assert done.code == 0
    assert "runs/perfect: left out" in done.err
    assert safedl("runs", "ls", "-q").out.split() == ["random", "clean", "attack", "base"]
    assert safedl("runs", "ls", "--status", "interrupted", "-q").out == "random\n"
