"""Bad input of any kind: one clear message, an exit code, and nothing written."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

from .conftest import Safedl

GOOD = """
name: small
dataset: {name: digits}
model: {name: cnn, input_shape: [1, 8, 8], num_classes: 10}
attack_overrides:
  backdoor:
    static_patch: {poison_fraction: 0.05, target_class: 2}
defense_config:
  backdoor:
    static_patch:
      defenses: [activation_clustering]
      activation_clustering: {num_clusters: 2}
"""


class Bomb:
    """Unpickling it would make a file."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (Path.touch, (Path("exploded"),))  # type: ignore[return-value]


def changed(old: str, new: str) -> str:
    assert old in GOOD
    return GOOD.replace(old, new)


BAD_PROFILES = {
    "not YAML": ("name: [", ["line 1"]),
    "builds objects": ("name: !!python/object/apply:os.system ['touch exploded']", ["bad.yaml", "python"]),
    "a list": ("- 1\n- 2", ["bad.yaml"]),
    "empty": ("", ["bad.yaml"]),
    "misspelt defense": (
        GOOD.replace("activation_clustering", "activation_clusterin"),
        ["defense_config.backdoor.static_patch", "activation_clusterin", "Did you mean 'activation_clustering'?"],
    ),
    "parameter of another defense": (
        changed("num_clusters: 2", "epsilon: 2.0"),
        ["defense_config.backdoor.static_patch.activation_clustering.epsilon", "dp_training"],
    ),
    "ratio 1.5": (
        changed("poison_fraction: 0.05", "poison_fraction: 1.5"),
        ["attack_overrides.backdoor.static_patch.poison_fraction", "1.5"],
    ),
    "target class 99": (
        changed("target_class: 2", "target_class: 99"),
        ["attack_overrides.backdoor.static_patch.target_class", "99", "0 to 9"],
    ),
    "unknown layer": (
        GOOD.replace("activation_clustering", "model_inspection").replace("num_clusters: 2", "layers: [conv.9]"),
        ["model_inspection.layers", "conv.9"],
    ),
    "three channels announced": (changed("[1, 8, 8]", "[3, 8, 8]"), ["input_shape", "[3, 8, 8]", "[1, 8, 8]"]),
    "unknown data set": (changed("name: digits", "name: digit"), ["dataset.name", "digit", "digits"]),
    "unknown model": (changed("name: cnn", "name: cmm"), ["model.name", "cmm", "cnn"]),
    "a name that leaves the folder": (changed("name: small", "name: ../small"), ["name", "../small"]),
}


@pytest.mark.parametrize("what", BAD_PROFILES)
def test_bad_profile(safedl: Safedl, tmp_path: Path, what: str) -> None:
    text, expected = BAD_PROFILES[what]
    (tmp_path / "bad.yaml").write_text(text)
    for command in (("profile", "check", "bad.yaml"), ("run", "bad.yaml")):
        answer = safedl(*command)
        assert answer.code == 2, answer
        assert all(part in answer.err for part in expected), answer.err
        assert "Traceback" not in answer.err
        assert len(answer.err.strip().splitlines()) <= 2, answer.err
    assert [p.name for p in tmp_path.iterdir()] == ["bad.yaml"]


def test_missing_profile(safedl: Safedl, tmp_path: Path) -> None:
    answer = safedl("run", "digitz")
    assert answer.code == 4
    assert "Did you mean 'digits'?" in answer.err
    assert not list(tmp_path.iterdir())


def with_data(tmp_path: Path, dataset: str, model: str = "name: cnn") -> None:
    text = GOOD.replace("{name: digits}", dataset).replace(
        "{name: cnn, input_shape: [1, 8, 8], num_classes: 10}", f"{{{model}}}"
    )
    (tmp_path / "bad.yaml").write_text(text)


def refused(safedl: Safedl, tmp_path: Path, *expected: str) -> None:
    before = sorted(tmp_path.rglob("*"))
    answer = safedl("run", "bad.yaml")
    assert answer.code == 2, answer
    assert all(part in answer.err for part in expected), answer.err
    assert "Traceback" not in answer.err
    assert sorted(tmp_path.rglob("*")) == before


def test_empty_image_folder(safedl: Safedl, tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    with_data(tmp_path, "{name: mine, type: custom, path: images}")
    refused(safedl, tmp_path, "images")


def test_truncated_image(safedl: Safedl, tmp_path: Path) -> None:
    for label in ("cat", "dog"):
        folder = tmp_path / "images" / label
        folder.mkdir(parents=True)
        for i in range(8):
            Image.effect_noise((16, 16), 50).save(folder / f"{i}.png")
    broken = tmp_path / "images" / "dog" / "3.png"
    broken.write_bytes(broken.read_bytes()[:60])
    with_data(tmp_path, "{name: mine, type: custom, path: images}")
    refused(safedl, tmp_path, "3.png")


def test_weights_with_pickled_code(safedl: Safedl, tmp_path: Path) -> None:
    torch.save({"conv.0.weight": Bomb()}, tmp_path / "weights.pt")
    with_data(tmp_path, "{name: digits}", "name: cnn, weights: weights.pt")
    refused(safedl, tmp_path, "weights.pt")
    (tmp_path / "weights.pt").write_bytes(pickle.dumps(Bomb()))
    refused(safedl, tmp_path, "weights.pt")
    assert not (tmp_path / "exploded").exists()


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("run", "digits", "--seeds", "2-x"), "--seeds 2-x"),
        (("run", "digits", "--seeds", "1-"), "--seeds 1-: write a range like 0-2"),
        (("run", "digits", "--attack", "statick_patch"), "Did you mean 'static_patch'?"),
        (("run", "digits", "--defense", "prunning"), "Did you mean 'pruning'?"),
        (("compare", "--attack", "statick_patch"), "Did you mean 'static_patch'?"),
        (("runs", "ls", "--attack", "statick_patch"), "Did you mean 'static_patch'?"),
        (("runs", "ls", "--defense", "prunning"), "Did you mean 'pruning'?"),
        (("run", "digits", "--device", "cuda:77"), "cuda:77"),
        (("run", "digits", "--device", "toaster"), "toaster"),
        (("run", "digits", "--workers", "0"), "--workers"),
        (("run",), "PROFILE"),
        (("cache", "gc"), "--older"),
        (("cache", "gc", "--max-size", "much"), "much"),
        (("cache", "gc", "--max-size", "-5M", "--yes"), "--max-size -5M: write a size"),
        (("cache", "gc", "--max-size", "nan", "--yes"), "--max-size nan: write a size"),
        (("cache", "gc", "--older", "-1", "--yes"), "--older"),
        (("cache", "gc", "--older", "nan", "--yes"), "--older"),
    ],
)
def test_bad_options(safedl: Safedl, tmp_path: Path, arguments: tuple[str, ...], expected: str) -> None:
    answer = safedl(*arguments)
    assert answer.code == 2, answer
    assert expected in answer.err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "command", [("runs", "show", "x"), ("runs", "logs", "x"), ("runs", "cancel", "x"), ("resume",)]
)
def test_nothing_there_yet(safedl: Safedl, tmp_path: Path, command: tuple[str, ...]) -> None:
    answer = safedl(*command)
    assert answer.code == 4, answer
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        (("runs", "ls", "--limit", "99999999999999999999"), 2, "less than or equal to 1000000000"),
        (("compare", "--limit", "99999999999999999999"), 2, "less than or equal to 1000000000"),
        (("plan", "digits", "--seeds", "0-9999999999"), 2, "between one and a thousand seeds"),
        (("plan", "digits", "--seeds", "18446744073709551616"), 2, "from 0 to 2147483647"),
        (("--workspace", "file", "run", "digits"), 2, "is a file; name a folder"),
        (("--workspace", "file", "db", "upgrade"), 2, "is a file; name a folder"),
        (("--db", "file/x.db", "db", "upgrade"), 5, "is a file, not a folder"),
        (("--workspace", "x" * 300, "db", "upgrade"), 2, "a name is longer than the disk allows"),
        (("--db", "x" * 300, "runs", "ls"), 2, "a name is longer than the disk allows"),
        (("export", "x", "--data", "x" * 300), 2, "a name is longer than the disk allows"),
        (("export", "x", "--model", f"{'x' * 300}.pt2"), 2, "a name is longer than the disk allows"),
    ],
)
def test_odd_numbers_and_places(safedl: Safedl, tmp_path: Path, words: tuple[str, ...], code: int, text: str) -> None:
    (tmp_path / "file").touch()
    answer = safedl(*words)
    assert answer.code == code and text in answer.err, answer
    assert "internal error" not in answer.err


def test_doctor_says_where_data_sets_lie(safedl: Safedl, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cached"))
    monkeypatch.delenv("SAFEDL_DATA", raising=False)
    folder = json.loads(safedl("doctor", "--json").out)["data folder"]
    assert Path(folder).is_absolute() and Path(folder).name == "data" and "safedl" in folder
    monkeypatch.setenv("SAFEDL_DATA", str(tmp_path / "sets"))
    assert json.loads(safedl("doctor", "--json").out)["data folder"] == str(tmp_path / "sets")


def test_doctor_of_a_workspace_to_come(safedl: Safedl) -> None:
    answer = safedl("--workspace", "later", "doctor")
    assert answer.code == 0 and "later" in answer.out


@pytest.mark.parametrize(("words", "code"), [(("list", "attacks", "--json"), 0), (("db", "path"), 0), (("sql",), 2)])
def test_a_reader_that_has_gone_changes_no_exit_code(tmp_path: Path, words: tuple[str, ...], code: int) -> None:
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", "safedl", "--workspace", str(tmp_path), *words]
    done = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, text=True, check=False)
    os.close(write)
    assert done.returncode == code, done.stderr
    assert "Broken" not in done.stderr and "Exception" not in done.stderr


@pytest.mark.parametrize(("closed", "words"), [(">&-", "db path"), ("2>&-", "nosuch"), (">&- 2>&-", "list models")])
def test_closed_output_is_no_error(tmp_path: Path, closed: str, words: str) -> None:
    command = f"{sys.executable} -m safedl --workspace {tmp_path} {words} {closed}"
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False)
    assert done.returncode == (2 if words == "nosuch" else 0), done
    assert done.stderr == ""


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8:strict"])
def test_a_terminal_without_some_letters_gets_the_others(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "bad.yaml").write_text(changed("name: small", "name: größer→kleiner"), encoding="utf-8")
    command = [sys.executable, "-m", "safedl", "--workspace", str(tmp_path), "profile"]
    environment = {**os.environ, "PYTHONIOENCODING": encoding}

    def say(*words: str | bytes) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run([*command, *words], capture_output=True, env=environment, check=False)

    shown = say("show", str(tmp_path / "bad.yaml"))
    assert shown.returncode == 0, shown.stderr
    assert b"kleiner" in shown.stdout and b"dataset:" in shown.stdout
    told = json.loads(say("check", str(tmp_path / "bad.yaml"), "--json").stdout)
    assert told["name"] == "größer→kleiner"
    folder = os.fsencode(tmp_path) + b"/\xff"
    path = subprocess.run(
        [*command[:3], "--workspace", folder, "db", "path"], capture_output=True, env=environment, check=False
    )
    assert path.returncode == 0 and path.stdout.endswith(b"/safedl.db\n"), path.stderr
