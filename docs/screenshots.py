"""Draws the pictures of the app in `docs/pictures/`, from a workspace with real runs.

    python docs/screenshots.py WORKSPACE

Run `safedl --workspace WORKSPACE run digits` first, and `safedl --workspace WORKSPACE scan --data ...` on a set with
some poison in it. Each picture is what the app shows after the keys beside it.
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

from safedl.workspace import Workspace
from tui.app import SafedlApp

SIZE = (120, 36)
PICTURES = Path(__file__).parent / "pictures"
SCREENS = {
    "profile": ("1", "o", *"digits", "enter", *"jjjj", "enter"),
    "risk": ("2",),
    "defenses": ("3", "enter", "j"),
    "run": ("4", "a", "down", "enter", "g", "j"),
    "runs": ("5", "slash", *"defense:activation attack:static", "enter", "g", "enter", "]", "]"),
    "compare": ("6",),
    "ship": ("7",),
    "review": ("8", "d", "d", "r", "space"),
}
SETTLE = 1.5
"""Seconds until what a pane reads in the background has arrived."""


async def draw(workspace: Workspace) -> None:
    """Write one SVG per screen."""
    PICTURES.mkdir(exist_ok=True)
    for name, keys in SCREENS.items():
        app = SafedlApp(workspace, memory=workspace.root / "screenshots.json")
        app.animation_level = "none"
        async with app.run_test(size=SIZE) as pilot:
            for key in keys:
                await pilot.press(key)
                await asyncio.sleep(SETTLE if len(key) > 1 or key.isdigit() else 0)
            await asyncio.sleep(SETTLE)
            (PICTURES / f"{name}.svg").write_text(app.export_screenshot(title="safedl"))


if __name__ == "__main__":
    os.environ["COLORTERM"] = "truecolor"  # sample images are drawn in colours, whatever the terminal of this script
    asyncio.run(draw(Workspace.open(Path(sys.argv[1]))))
