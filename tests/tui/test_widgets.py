from __future__ import annotations

import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from rich.color import Color

from safedl.workspace import Workspace
from tests.conclusions.measured import ran, save
from tests.store.samples import Workplace
from tests.tui.conftest import FakeDriver, app_on, recorded, screen_text, until
from tests.tui.test_compare import mark_static_patch, open_pane
from tui.panes.details import DetailsBox
from tui.panes.profile import ProfilePane
from tui.panes.runs import RunsPane
from tui.states import LOOKS, bar, look
from tui.widgets.chart import Curve, draw
from tui.widgets.image import half_blocks
from tui.widgets.logview import LogView
from tui.widgets.pane import Box
from tui.widgets.table import Column, Table


def dots(lines: list[str]) -> int:
    return sum(bin(ord(c) - 0x2800).count("1") for line in lines for c in line if 0x2800 <= ord(c) < 0x2900)


def test_a_rising_curve_goes_from_the_lower_left_to_the_upper_right() -> None:
    lines = [t.plain for t in draw([Curve("loss", [(0, 0.0), (10, 1.0)])], 40, 6)]
    assert lines[0].startswith("── 1 loss")
    assert lines[0].endswith("step 10")
    assert lines[1].lstrip().startswith("1┤")
    assert lines[5].lstrip().startswith("0┤")
    assert lines[1][-1] not in " ⠀"
    assert lines[5][lines[5].index("┤") + 1] not in " ⠀"
    assert lines[1][lines[1].index("┤") + 1] == " "


def test_a_constant_curve_is_one_line_of_dots() -> None:
    lines = [t.plain for t in draw([Curve("c", [(0, 2.0), (5, 2.0)])], 40, 6)][1:]
    used = [line for line in lines if dots([line])]
    assert len(used) == 1
    assert dots(used) == (len(used[0]) - used[0].index("┤") - 1) * 2


def test_a_second_curve_can_be_told_apart_without_colour() -> None:
    points = [(0, 0.0), (10, 1.0)]
    solid = dots([t.plain for t in draw([Curve("a", points)], 40, 6)][1:])
    both = [t.plain for t in draw([Curve("a", [(0, 0.0), (10, 0.0)]), Curve("b", points)], 40, 6)]
    assert "┄┄ 1 b" in both[0]
    assert dots(both[1:4]) < solid * 0.75


@given(
    points=st.lists(st.tuples(st.integers(0, 10**6), st.floats(allow_nan=True, width=32)), max_size=30),
    width=st.integers(0, 100),
    height=st.integers(1, 20),
)
def test_any_curve_fits_its_place(points: list[tuple[int, float]], width: int, height: int) -> None:
    lines = draw([Curve("name", sorted(points, key=lambda p: p[0]))], width, height)
    assert len(lines) == height
    drawn = any(math.isfinite(v) for _, v in points) and width >= 30 and height >= 2
    assert not drawn or all(line.cell_len <= width for line in lines)


@pytest.mark.parametrize(("fraction", "text"), [(0, "····"), (0.5, "██··"), (1, "████"), (7, "████"), (0.28, "█▏··")])
def test_bars(fraction: float, text: str) -> None:
    assert bar(fraction, 4) == text


def test_states_have_words_and_can_be_told_apart_by_them() -> None:
    assert len({(shape.glyph, shape.word) for shape in LOOKS.values()}) >= len(LOOKS) - 1  # started is running
    assert all(shape.word for shape in LOOKS.values())
    assert look("new one").word == "new one"


def test_states_are_ascii_where_the_locale_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("locale.getpreferredencoding", lambda _: "ANSI_X3.4-1968")
    assert all(look(name).glyph.isascii() for name in LOOKS)
    assert bar(0.5, 4) == "##.."


def test_a_picture_keeps_its_colours_and_proportions(tmp_path: Path) -> None:
    image = Image.new("RGB", (4, 4), (0, 0, 255))
    image.putpixel((0, 0), (255, 0, 0))
    image.save(tmp_path / "p.png")
    lines = half_blocks(tmp_path / "p.png", 20, 20)
    assert [line.plain for line in lines] == ["▀▀▀▀", "▀▀▀▀"]
    style = lines[0].spans[0].style
    assert not isinstance(style, str)
    assert (style.color, style.bgcolor) == (Color.from_rgb(255, 0, 0), Color.from_rgb(0, 0, 255))
    small = half_blocks(tmp_path / "p.png", 2, 20)
    assert [line.plain for line in small] == ["▀▀"]


def test_without_colours_light_is_a_denser_sign(tmp_path: Path) -> None:
    image = Image.new("L", (2, 2), 0)
    image.putpixel((1, 0), 255)
    image.putpixel((1, 1), 255)
    image.save(tmp_path / "p.png")
    assert [line.plain for line in half_blocks(tmp_path / "p.png", 9, 9, colours=False)] == [" @"]


async def test_after_a_zoom_the_style_sheet_decides_again_what_is_shown(workspace: Workspace) -> None:
    save(workspace.root)
    async with app_on(workspace) as (app, pilot):
        await app.action_go("profile")
        pane = app.main.query_one(ProfilePane)
        pane.picks("rail").point_at("training")
        await until(lambda: pane.has_class("setting"))
        shown = [box.id for box in pane.query(Box) if box.display]
        assert "threats-box" not in shown
        await pilot.press("z")
        await until(lambda: [box.id for box in pane.query(Box) if box.display] == ["rail-box"])
        await pilot.press("z")
        await until(lambda: [box.id for box in pane.query(Box) if box.display] == shown)


def test_a_table_fills_its_width_and_leaves_columns_out_where_it_is_narrow() -> None:
    columns: list[Column[str]] = [
        Column("name", 0, lambda r: r),
        Column("n", 4, len, right=True),
        Column("more", 9, lambda r: "x", least=60),
    ]
    table = Table(columns, key=lambda r: r, marked={"b"})
    table.rows = ["a[/red]\x1b", "b"]
    assert table.line(0, 40).plain == "›[ ] a[/red]\\x1b".ljust(35) + "    8"
    assert table.line(1, 40).plain.startswith(" [x] b")
    assert {table.line(i, w).cell_len for i in (0, 1) for w in (40,)} == {40}
    assert table.head(70).plain.split() == ["name", "n", "more"]
    assert table.head(40).plain.split() == ["name", "n"]


async def test_a_click_goes_to_the_cell_and_only_a_second_one_opens_it(workspace: Workspace) -> None:
    work = Workplace(workspace.root)
    ran(work, seeds=[0])
    work.recorder.close()
    async with app_on(workspace, (120, 40)) as (app, pilot):
        pane = await open_pane(app, pilot)
        await mark_static_patch(pane, pilot)
        second = pane.grid.runs[2]
        place = screen_text(app).splitlines()[2].index(second.label[:9]) - 1
        await pilot.click(pane.grid, offset=(place, 1))
        await until(lambda: pane.grid.current is second)
        assert app.pane is pane and pane.grid.cursor == 0
        await pilot.click(pane.grid, offset=(1, 1))
        await pilot.pause()
        assert pane.grid.column == 1, "the names of the metrics are no cells to stand in"
        await pilot.click(pane.grid, offset=(place, 1), times=2)
        await until(lambda: isinstance(app.pane, RunsPane))
        await until(lambda: app.main.query_one(DetailsBox).row is not None)
        row = app.main.query_one(DetailsBox).row
        assert row is not None and row.record.uid == second.record.uid


async def test_the_cursor_stays_in_view_when_the_terminal_shrinks(workspace: Workspace) -> None:
    async with app_on(workspace, (80, 40)) as (app, pilot):
        await app.action_go("profile")
        rail = app.main.query_one(ProfilePane).picks("rail")
        rail.cursor = rail.count - 1
        await pilot.pause()
        assert rail.scroll_offset.y == 0
        await pilot.resize_terminal(80, 16)
        await until(lambda: rail.scroll_offset.y + rail.size.height == rail.count > rail.size.height)


async def test_the_end_of_a_log_that_is_followed_stays_in_view_when_the_terminal_shrinks(workspace: Workspace) -> None:
    driver = FakeDriver(workspace, recorded())
    driver.say()
    driver.leave()
    async with app_on(workspace, (80, 40)) as (app, pilot):
        log = app.main.query_one("#log", LogView)
        await until(lambda: log.scroll_offset.y + log.size.height == log.count > log.size.height)
        await pilot.resize_terminal(80, 20)
        await until(lambda: app.size.height == 20 and log.scroll_offset.y + log.size.height == log.count)
        assert log.vertical_scrollbar.position == log.scroll_y
        log.action_move_to(0)
        await pilot.resize_terminal(80, 24)
        await pilot.pause()
        assert log.scroll_offset.y == 0
