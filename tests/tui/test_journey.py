"""The whole way in a real terminal of 80 x 24, by keys alone; and what happens when that terminal is lost."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from safedl.store.sql import query
from safedl.workspace import Workspace
from tests.tui.tmux import Tmux

SMALL = """\
name: small
dataset: {name: digits}
model: {name: cnn}
training: {epochs: 3, batch_size: 64, learning_rate: 0.002}
attack_overrides: {backdoor: {static_patch: {poison_fraction: 0.1, target_class: 1, patch_size_ratio: 0.25}}}
defense_config: {backdoor: {static_patch: {defenses: [spectral_signatures, anomaly_detection]}}}
"""
ANSWERS = ("white-box", "targeted", "cloud", "high", "internal_clean", "cnn", "api", "digits")
"""The first choice of each question: a backdoor is suggested, and three threats that are not simulated."""


@pytest.fixture
def root(tmp_path: Path) -> Iterator[Path]:
    """Return a workspace's folder; what still runs in it at the end is cancelled."""
    folder = tmp_path / "w"
    folder.mkdir()
    yield folder
    workspace = Workspace.open(folder, folder / "safedl.db")
    for uid in workspace.running():
        workspace.cancel(uid)


@pytest.fixture
def terminal(root: Path, tmp_path: Path) -> Iterator[Tmux]:
    tmux = Tmux(tmp_path, root)
    yield tmux
    tmux.close()


def statuses(root: Path) -> dict[str, int]:
    """Return how many rows have which status."""
    return dict(query(root / "safedl.db", "SELECT status, COUNT(*) FROM run GROUP BY status").rows)


def test_from_a_first_profile_to_a_query_by_keys_alone(root: Path, terminal: Tmux) -> None:
    make_profile(terminal)
    make_it_small(terminal)
    choose_defenses(terminal)
    text = (root / "profiles" / "demo.yaml").read_text()
    assert "epochs: 3" in text
    assert "num_clusters: 3" in text
    assert "learned_trigger" not in text
    assert "defenses: [activation_clustering, spectral_signatures, pruning]" in text

    run_and_cancel_one_stage(terminal)
    assert statuses(root) == {"completed": 7, "cancelled": 1}
    read_report_and_removed_samples(terminal)
    compare_two_defenses(terminal)
    ask_by_sql(terminal)
    terminal.press("C-q")
    terminal.wait_for("LEFT 0")


def make_profile(terminal: Tmux) -> None:
    terminal.wait_for("Nothing has run here yet")
    terminal.press("n")
    terminal.wait_for("New profile")
    terminal.type("demo")
    terminal.press("Enter")
    for number, answer in enumerate(ANSWERS, 1):
        terminal.wait_for(f"{number} of 8", f"›( ) {answer}")
        terminal.press("Enter")
    terminal.wait_for("valid · 2 attacks, 12 defenses", "[x] backdoor_attacks", "4 covered")


def make_it_small(terminal: Tmux) -> None:
    """Three epochs, and one attack."""
    terminal.press("h")
    terminal.wait_for("┏━ demo")
    terminal.press("j", "j", "j", "Enter")
    terminal.wait_for("┏━ training", "› epochs        15")
    terminal.press("Enter")
    terminal.wait_for("⏎ take it")
    terminal.press("C-u", "C-k", "3", "Enter")
    terminal.wait_for("› epochs        3  ", "+  epochs: 3")
    terminal.press("h")
    terminal.wait_for("┏━ demo")
    terminal.press("G", "Enter")
    terminal.wait_for("┏━ attacks", "›[ ] label_flipping")
    terminal.press("j", "j", "j", "Space")
    terminal.wait_for("›[ ] learned_trigger", "valid · 1 attack, 6 defenses")


def choose_defenses(terminal: Tmux) -> None:
    """Leave three of six, and change a parameter of one."""
    terminal.press("3")
    terminal.wait_for("›A static_patch  6/6")
    terminal.press("Enter")
    terminal.wait_for("┏━ static_patch", "›[x] fine_pruning")
    terminal.press("Space", "j", "j", "j", "Space", "G", "Space")
    terminal.wait_for("[ ] fine_pruning", "[ ] anomaly_detection", "›[ ] model_inspection", "3/6")
    terminal.press("g", "j", "Enter")
    terminal.wait_for("┏━ activation_clustering · parameters")
    terminal.press("j", "Enter")
    terminal.wait_for("› num_clusters", "⏎ take it")
    terminal.press("C-u", "C-k", "x", "Enter")
    terminal.wait_for("   ! ", "not saved")
    terminal.press("Enter")
    terminal.wait_for("⏎ take it")
    terminal.press("C-u", "C-k", "3", "Enter")
    terminal.wait_for("› num_clusters 3         *")
    terminal.wait_for("not saved", gone=True)


def run_and_cancel_one_stage(terminal: Tmux) -> None:
    terminal.press("r")
    terminal.wait_for("[4 Run]", "demo · ▶ running", "baseline", "waiting", "random_removal")
    terminal.press("G", "x")
    terminal.wait_for("Cancel random_removal")
    terminal.press("x")
    terminal.wait_for("cancelled")
    terminal.wait_for(
        "✓ activation_clustering", "✓ spectral_signatures", "✓ pruning", "7 done, 1 cancelled", "R resumes"
    )


def read_report_and_removed_samples(terminal: Tmux) -> None:
    terminal.press("g", "j", "j")
    terminal.wait_for("›    ✓ activation_clustering")
    terminal.press("Enter")
    terminal.wait_for("[5 Runs]", "static_patch/activation_clustering@0", "training samples were removed")
    terminal.press("]")
    terminal.wait_for("[Report]", "› Activation clusterin", "In short", "Removed samples")
    terminal.press("Enter")
    terminal.wait_for("╭─ Runs", "Removes samples")
    terminal.press("]")
    terminal.wait_for("[Samples]", "picture 1 of", "poisoned True", "▀▀▀▀▀▀▀▀")
    terminal.press("l")
    terminal.wait_for("picture 2 of")
    terminal.press("h")
    terminal.wait_for("picture 1 of")
    terminal.press("Escape")
    terminal.wait_for("s sort")


def compare_two_defenses(terminal: Tmux) -> None:
    """Mark activation clustering, where the cursor stands, and spectral signatures above it."""
    terminal.press("Space")
    terminal.wait_for("1 marked")
    terminal.press("/")
    terminal.wait_for("to the list")
    terminal.type("defense:spectral kind:defense")
    terminal.press("Enter")
    terminal.wait_for("activation_clus", gone=True)
    terminal.wait_for("›[ ] ", "spectral_signatures")
    terminal.press("g", "Space")
    terminal.wait_for("2 marked")
    terminal.press("c")
    terminal.wait_for("[6 Compare]", "Compare 2 runs", "clean_accuracy", "★")
    assert re.search(r"metric +(activation|= activation)\S* +(= )?spectral|metric +(= )?spectral\S* +(= )?activation",
                     terminal.screen())  # fmt: skip
    baseline = re.search(r"= \w+", terminal.screen())
    terminal.press("l", "b")
    terminal.wait_for(baseline.group() if baseline else "= ", gone=True)


def ask_by_sql(terminal: Tmux) -> None:
    terminal.press("s")
    terminal.wait_for("^j run")
    terminal.press("Down", "Down", "End")
    terminal.type(" LIMIT 2")
    terminal.press("C-j")
    terminal.wait_for("2 rows", "reads only", "›static_patch")
    terminal.press("Escape")
    terminal.wait_for("^j run", gone=True)


def test_a_run_outlives_its_terminal_and_the_next_start_shows_it(root: Path, terminal: Tmux, tmp_path: Path) -> None:
    (root / "profiles").mkdir()
    (root / "profiles" / "small.yaml").write_text(SMALL)
    terminal.wait_for("Nothing has run here yet")
    terminal.press("r")
    terminal.wait_for("Run a profile", "small   yours")
    terminal.press("Enter")
    terminal.wait_for("small · ▶ running", "waiting")
    terminal.close()  # the terminal goes away: SIGHUP

    workspace = Workspace.open(root, root / "safedl.db")
    (uid,) = workspace.running()
    told, end = -1, 0.0
    while workspace.is_running(uid):
        if (size := (workspace.experiment_folder(uid) / "events.jsonl").stat().st_size) != told:
            told, end = size, time.monotonic() + 120
        assert time.monotonic() < end, "the driver says nothing more and does not end"
        time.sleep(0.2)
    assert statuses(root).keys() == {"completed"}

    again = Tmux(tmp_path, root, "again")
    try:
        again.wait_for("small · ✓ done", uid, "✓ spectral_signatures")
    finally:
        again.close()
