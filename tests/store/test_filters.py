from __future__ import annotations

import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from safedl.errors import UsageError
from safedl.store import filters, queries
from safedl.store.filters import Term, parse
from tests.store.samples import Workplace, experiment, finished, tree


@pytest.mark.parametrize(
    ("text", "terms"),
    [
        ("", []),
        ("attack:static", [Term("attack", ":", ("static",))]),
        ("-model:cnn", [Term("model", ":", ("cnn",), negated=True)]),
        ("status:done,failed", [Term("status", ":", ("completed", "failed"))]),
        ("acc>0.9", [Term("clean_accuracy", ">", ("0.9",))]),
        ("asr.3<=1e-3", [Term("asr.3", "<=", ("1e-3",))]),
        ("'two words' x", [Term("", ":", ("two words",)), Term("", ":", ("x",))]),
        ("data:digits", [Term("dataset", ":", ("digits",))]),
        ("-", [Term("", ":", ("-",))]),
    ],
)
def test_terms(text: str, terms: list[Term]) -> None:
    assert parse(text) == terms


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("atack:x", "Did you mean 'attack'"),
        ("acc>high", "'high' is no number"),
        ("seed:one", "'seed' is a whole number"),
        ("attack:", "what should 'attack' contain"),
        ("'open", "quotation mark"),
    ],
)
def test_what_is_wrong_is_named(text: str, why: str) -> None:
    with pytest.raises(UsageError, match=why):
        parse(text)


@given(st.text(max_size=40))
def test_any_text_is_a_filter_or_one_clear_error(text: str) -> None:
    try:
        filters.conditions(text)
    except UsageError as error:
        assert str(error).startswith("filter: ")


@pytest.fixture
def filled(work: Workplace) -> Path:
    work.begin(experiment(), [*tree(), *tree("2", seed=7, model="resnet_100%")])
    work.apply(finished("base", {"clean_accuracy": 0.99}))
    work.apply(finished("attack", {"clean_accuracy": 0.98, "asr": 0.95}))
    work.apply(finished("clean", {"clean_accuracy": 0.97, "asr": 0.02}))
    work.apply(finished("attack2", {"clean_accuracy": 0.5, "asr": math.nan}, "failed", "out of memory"))
    return work.db


@pytest.mark.parametrize(
    ("text", "uids"),
    [
        ("attack:static status:completed acc>0.975", {"attack"}),
        ("acc>=0.97 acc<0.99", {"attack", "clean"}),
        ("asr>0", {"attack", "clean"}),
        ("status:done -asr>0.5", {"base", "clean"}),
        ("MEMORY", {"attack2"}),
        ("defense:clean", {"clean", "clean2"}),
        ("-attack:static seed:7", {"base2"}),
        ("seed:0,7 kind:baseline", {"base", "base2"}),
        ("model:100%", {"base2", "attack2", "clean2", "perfect2", "random2"}),
        ("model:t_1 uid:2", {"base2", "attack2", "clean2", "perfect2", "random2"}),
        ("model:c_n", set()),
        ("model:res%100", set()),
        ("c_n", set()),
        ("detector:clean uid:2", {"random2"}),
        ("uid:'; DROP TABLE run; --'", set()),
    ],
)
def test_a_filter_lets_the_right_runs_through(filled: Path, text: str, uids: set[str]) -> None:
    assert {row.record.uid for row in queries.runs(filled, filter=text)} == uids
    assert queries.count_runs(filled, text) == len(uids)


def test_runs_without_the_value_come_last_in_either_direction(filled: Path) -> None:
    down = [row.record.uid for row in queries.runs(filled, sort="asr")]
    up = [row.record.uid for row in queries.runs(filled, sort="asr", descending=False)]
    assert down[:2] == ["attack", "clean"]
    assert up[:2] == ["clean", "attack"]
    assert down[2:] == up[2:] == [r.record.uid for r in queries.runs(filled) if r.record.uid not in ("attack", "clean")]


def test_pages_by_offset_and_by_uid_fit_together(filled: Path) -> None:
    everything = [row.record.uid for row in queries.runs(filled, sort="model", descending=False)]
    paged = [
        row.record.uid
        for offset in range(0, 12, 3)
        for row in queries.runs(filled, sort="model", descending=False, limit=3, offset=offset)
    ]
    assert paged == everything
    first = [row.record.uid for row in queries.runs(filled, filter="static", limit=3)]
    rest = [row.record.uid for row in queries.runs(filled, filter="static", limit=50, before=first[-1])]
    assert [*first, *rest] == [row.record.uid for row in queries.runs(filled, filter="static")]


def test_an_order_that_cannot_be_a_name_is_refused(filled: Path) -> None:
    with pytest.raises(UsageError, match="cannot sort by"):
        queries.runs(filled, sort="a; DROP")
