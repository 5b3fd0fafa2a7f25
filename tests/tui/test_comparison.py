from __future__ import annotations

from typing import Any

from rich.text import Text
from textual.app import App, ComposeResult

from safedl.evaluation.statistics import estimate
from safedl.text import shown
from tests.store.samples import run
from tui.services.comparison import Compared, best_of, direction, labels, metrics_of
from tui.services.plots import Point, Value, bars, scatter
from tui.widgets.chart import Curve, draw
from tui.widgets.grid import Grid
from tui.widgets.ranking import _value


def compared(uid: str, **metrics: float | None) -> Compared:
    return Compared(run(uid, "defense", defense=uid), uid, metrics)


def test_the_best_is_the_smallest_where_less_is_better() -> None:
    runs = [compared("a", asr=0.1, clean_accuracy=0.9), compared("b", asr=0.7, clean_accuracy=0.95), compared("c")]
    assert best_of("asr", runs) == {"a"}
    assert best_of("clean_accuracy", runs) == {"b"}
    assert best_of("tpr", runs) == set()


def test_nothing_is_best_among_equals_alone_or_without_a_direction() -> None:
    assert best_of("asr", [compared("a", asr=0.1), compared("b", asr=0.1001)]) == set()
    assert best_of("asr", [compared("a", asr=0.1), compared("b", asr=float("nan"))]) == set()
    assert best_of("removed", [compared("a", removed=1), compared("b", removed=50)]) == set()
    assert best_of("asr", [compared(x, asr=v) for x, v in (("a", 0.1), ("b", 0.1), ("c", 0.5))]) == {"a", "b"}


def test_directions() -> None:
    assert [direction(m) for m in ("asr", "score.final", "score.cost", "removed", "clusters")] == [
        "↓",
        "↑",
        "↓",
        "",
        "",
    ]


def test_metrics_come_in_order_and_without_those_of_classes() -> None:
    metrics: dict[str, Any] = {"score.final": 1, "asr.cat": 0.1, "clusters": 2, "asr": 0.1, "tpr": None, "memory_mb": 9}
    assert metrics_of([compared("a", **metrics)]) == ["asr", "score.final", "clusters"]
    assert metrics_of([compared("a", **metrics), compared("b", asr=1.0)]) == ["asr", "score.final"]


def test_labels_tell_runs_apart_and_say_no_more() -> None:
    alone = [run("r1", "attack"), run("r2", "defense", defense="pruning")]
    assert labels(alone) == ["undefended", "pruning"]
    attacks = [*alone, run("r3", "defense", defense="pruning", attack="label_flipping")]
    assert labels(attacks) == ["undefended static_patch", "pruning static_patch", "pruning label_flipping"]
    seeds = [run("r1", "defense", defense="pruning"), run("r2", "defense", defense="pruning", seed=1)]
    assert labels(seeds) == ["pruning @0", "pruning @1"]
    again = [run("uid-aaaa", "defense", defense="pruning"), run("uid-bbbb", "defense", defense="pruning")]
    assert labels(again) == ["pruning aaaa", "pruning bbbb"]


def test_a_change_that_rounds_to_nothing_is_no_fall() -> None:
    """The command line says +0.000 of the same."""
    assert _value(estimate([0.95]), estimate([-0.0004])) == "0.950 +0.000"
    assert _value(estimate([0.95]), estimate([-0.0006])) == "0.950 -0.001"
    assert [shown(-0.0), shown(0.0), shown(-0.002)] == ["0", "0", "-0.002"]


def test_bars_are_as_long_as_their_values() -> None:
    lines = bars([Value("none", 1.0), Value("half [/b]", 0.5, best=True), Value("x", None), Value("y", -0.2)], 60)
    full, half, missing, negative = lines.plain.split("\n")
    assert full.count("█") == 2 * half.count("█") > 10 and half.endswith("0.500 ★")
    assert "not measured" in missing and "█" not in negative and negative.endswith("-0.200")
    larger = bars([Value("a", 40.0), Value("b", 10.0)], 60).plain.split("\n")
    assert larger[0].count("█") == 4 * larger[1].count("█")


def test_names_that_differ_in_their_ends_differ_in_small_plots_too() -> None:
    names = ["jpeg_preprocessing @0", "jpeg_preprocessing @1"]
    left, right = (line.split(" ")[1][:2] for line in bars([Value(n, 0.5) for n in names], 33).plain.split("\n"))
    assert (left, right) == ("@0", "@1")
    legend = draw([Curve(n, [(0, 0.0), (9, 1.0)]) for n in names], 51, 5)[0].plain
    assert "@0" in legend and "@1" in legend and len(legend) == 51


def test_points_lie_where_their_values_say() -> None:
    drawn = scatter([Point("low right", 1.0, 0.0), Point("high left", 0.0, 1.0)], "x", "y", 50, 14).plain.split("\n")
    plot = [line.split("┤", 1)[1] for line in drawn if "┤" in line]
    a, b = (next((y, line.index(mark)) for y, line in enumerate(plot) if mark in line) for mark in "AB")
    assert a[0] > b[0] and a[1] > b[1]
    assert "A low right  B high left" in drawn[-1]
    assert max(map(len, drawn)) <= 50 and len(drawn) <= 14


def test_what_the_letters_of_a_plane_mean_is_told_in_little_room_too() -> None:
    names = [f"random_removal:activation_clustering static_patch @{seed}" for seed in (0, 1)]
    drawn = scatter([Point(n, float(i), 0.5) for i, n in enumerate(names)], "x", "y", 33, 12).plain.split("\n")
    assert [line[:3] for line in drawn[-2:]] == ["A r", "B r"]
    assert [line[-2:] for line in drawn[-2:]] == ["@0", "@1"]
    assert max(map(len, drawn)) <= 33


class Shown(App[None]):
    def compose(self) -> ComposeResult:
        yield Grid(fixed=True)


async def test_the_cursors_column_is_always_in_view() -> None:
    app = Shown()
    async with app.run_test(size=(40, 6)) as pilot:
        grid = app.query_one(Grid)
        names = [f"column{i:02d}" for i in range(12)]
        grid.show(["row", *names], [[Text("r0"), *(Text(f"v{i}") for i in range(12))]], [False] * 13)
        grid.focus()
        await pilot.pause()
        assert "column00" in grid.head(39).plain and grid.head(39).plain.endswith("›")
        await pilot.press(*["l"] * 20)
        head = grid.head(39).plain
        assert grid.column == 12 and "column11" in head and head.split()[0] == "row" and "column00" not in head
        assert "‹" in head and not head.endswith("›") and "v11" in grid.line(0, 39).plain
        await pilot.press(*["h"] * 20)
        assert grid.column == 1 and "column00" in grid.head(39).plain
