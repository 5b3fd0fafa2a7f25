from __future__ import annotations

import datetime
from concurrent.futures import ThreadPoolExecutor

import pytest

from safedl.conclusions import notes
from safedl.decision.answers import Answer
from safedl.errors import UsageError
from safedl.store.reindex import reindex
from tests.conclusions.measured import ran
from tests.store.samples import Workplace

DRIFT = Answer(done=True, note="weekly: see\nthe page", owner="a: b", date=datetime.date(2026, 1, 2))


def test_answers_are_kept_beside_each_other(work: Workplace) -> None:
    assert notes.read(work.results, "small") == {}
    notes.change(work.results, "small", "drift", DRIFT)
    path = notes.change(work.results, "small", "max_asr", Answer(waiver="known", owner="me"))
    assert path == work.results / "notes" / "small.yaml"
    assert notes.read(work.results, "small") == {"drift": DRIFT, "max_asr": Answer(waiver="known", owner="me")}
    notes.change(work.results, "small", "max_asr", None)
    notes.change(work.results, "small", "never given", None)
    assert notes.read(work.results, "small") == {"drift": DRIFT}
    assert notes.read(work.results, "other") == {}


def test_reindex_leaves_them_alone(work: Workplace) -> None:
    ran(work, seeds=(0,))
    notes.change(work.results, "small", "drift", DRIFT)
    work.recorder.close()
    reindex(work.db, work.results)
    assert notes.read(work.results, "small") == {"drift": DRIFT}


def test_two_people_at_once_lose_nothing(work: Workplace) -> None:
    items = [f"item{i}" for i in range(8)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda item: notes.change(work.results, "small", item, DRIFT), items))
    assert set(notes.read(work.results, "small")) == set(items)


@pytest.mark.parametrize("text", ["drift: {don: true}\n", "drift: [1\n", "- drift\n", "max_asr: {waiver: x}\n"])
def test_a_damaged_file_is_named(work: Workplace, text: str) -> None:
    path = notes.path_of(work.results, "small")
    path.parent.mkdir(parents=True)
    path.write_text(text)
    with pytest.raises(UsageError, match=r"small\.yaml"):
        notes.read(work.results, "small")


@pytest.mark.parametrize("name", ["../x", "a/b", "", ".x", "a\nb"])
def test_names_that_are_no_file_names_are_refused(work: Workplace, name: str) -> None:
    with pytest.raises(UsageError):
        notes.path_of(work.results, name)
