from __future__ import annotations

from typing import Any

import pytest

from safedl.errors import NotFoundError, UsageError
from safedl.plan import Stage
from safedl.store.named import named_queries, named_query, value
from safedl.store.sql import query
from tests.conclusions.measured import PROFILE, measure, ran
from tests.store.samples import Workplace


def ask(work: Workplace, name: str, **given: str) -> list[dict[str, Any]]:
    found = named_query(name)
    return query(work.db, found.sql, found.bind(given)).as_dicts()


def test_each_has_a_title_and_says_what_it_needs() -> None:
    found = named_queries()
    assert list(found) == ["before_after", "generalists", "missing", "pareto", "sweep", "winners"]
    assert all(q.title and not q.title.startswith("-") for q in found.values())
    assert found["sweep"].required == ("parameter",)
    assert found["sweep"].parameters == ("parameter", "attack", "dataset", "model")


def test_winners_and_generalists(work: Workplace) -> None:
    ran(work)
    (winner,) = ask(work, "winners")
    assert (winner["attack"], winner["defense"], winner["seeds"]) == ("static_patch", "spectral_signatures", 2)
    assert ask(work, "winners", dataset="mnist") == []
    places = {row["defense"]: (row["mean_place"], row["wins"]) for row in ask(work, "generalists", model="cnn")}
    assert places["spectral_signatures"] == (1.0, 1)
    assert places["anomaly_detection"] == (3.0, 0)


def test_what_is_worth_less_than_nothing_is_no_winner(work: Workplace) -> None:
    harmful = PROFILE.replace("[activation_clustering, spectral_signatures, anomaly_detection]", "[anomaly_detection]")
    ran(work, harmful)
    assert ask(work, "winners") == []
    assert [(r["mean_place"], r["wins"]) for r in ask(work, "generalists")] == [(1.0, 0)]


def test_attacks_with_other_parameters_do_not_compete(work: Workplace) -> None:
    ran(work)
    ran(work, PROFILE.replace("target_class: 2", "target_class: 2, poison_fraction: 0.2"), uid="e2")
    found = ask(work, "winners", dataset="digits")
    assert [r["defense"] for r in found] == ["spectral_signatures"] * 2
    assert len({r["attack_recipe"] for r in found}) == 2
    assert len(ask(work, "pareto", attack="static_patch")) == 4


def test_before_and_after(work: Workplace) -> None:
    ran(work, seeds=(0,))
    rows = {row["defense"]: row for row in ask(work, "before_after", attack="static_patch")}
    assert len(rows) == 3
    assert (rows["spectral_signatures"]["asr_before"], rows["spectral_signatures"]["asr_after"]) == (0.96, 0.02)
    assert rows["spectral_signatures"]["asr_delta"] == -0.94


def test_sweep(work: Workplace) -> None:
    ran(work, seeds=(0,))
    ran(work, PROFILE.replace("target_class: 2", "target_class: 2, poison_fraction: 0.2"), uid="e2", seeds=(0,))
    rows = ask(work, "sweep", parameter="attack.poison_fraction", attack="static_patch")
    assert {(r["value"], r["defense"]) for r in rows if r["defense"] == "anomaly_detection"} == {
        (0.05, "anomaly_detection"), (0.2, "anomaly_detection"),
    }  # fmt: skip


def test_a_sweep_mixes_neither_data_sets_nor_runs_of_other_times(work: Workplace) -> None:
    def worse(stage: Stage) -> dict[str, float]:
        return measure(stage) | {"clean_accuracy": 0.5}

    ran(work, seeds=(0,), measure=worse)
    ran(work, uid="e2", seeds=(0,))
    ran(work, PROFILE.replace("name: digits", "name: mnist"), uid="e3", seeds=(0,), measure=worse)
    rows = ask(work, "sweep", parameter="attack.poison_fraction", attack="static_patch")
    found = {r["dataset"]: (r["clean_accuracy"], r["runs"]) for r in rows if r["defense"] == "spectral_signatures"}
    assert found == {"digits": (0.97, 1), "mnist": (0.5, 1)}


def test_pareto(work: Workplace) -> None:
    ran(work)
    assert [r["defense"] for r in ask(work, "pareto", attack="static_patch")] == [
        "anomaly_detection",
        "spectral_signatures",
    ]


def test_missing_cells(work: Workplace) -> None:
    ran(work, seeds=(0,), statuses={"static_patch/anomaly_detection@0": "failed"})
    missing = {(r["attack"], r["defense"]) for r in ask(work, "missing")}
    assert ("static_patch", "anomaly_detection") in missing
    assert ("static_patch", "spectral_signatures") not in missing


def test_what_no_profile_may_combine_is_not_missing(work: Workplace) -> None:
    """Of 41 pairs that were called missing 38 were refused: does not apply."""
    ran(work, seeds=(0,))
    assert {(r["attack"], r["defense"]) for r in ask(work, "missing")} == set()


def test_bad_names_are_refused() -> None:
    with pytest.raises(NotFoundError, match="winners"):
        named_query("winner")
    with pytest.raises(UsageError, match="-p attack="):
        named_query("pareto").bind({})
    with pytest.raises(UsageError, match=r"'atack'.*Did you mean 'attack'"):
        named_query("pareto").bind({"atack": "x"})


def test_values_that_look_like_numbers_are_numbers() -> None:
    assert [value(v) for v in ("3", "-0.5", "1e3", "x", "")] == [3, -0.5, "1e3", "x", ""]
