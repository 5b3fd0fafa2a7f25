"""Pictures from half blocks: they work in any terminal that has colours, and as shades in one that has not."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.color import Color
from rich.style import Style
from rich.text import Text

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL.Image import Image as Picture
    from textual.app import App

SHADES = " .:-=+*#%@"


def has_colours(app: App[Any]) -> bool:
    """Return whether the terminal shows enough colours for pictures; else they are drawn in shades."""
    return not app.no_color and app.console.color_system in ("256", "truecolor")


def half_blocks(source: Path | NDArray[np.uint8], width: int, height: int, *, colours: bool = True) -> list[Text]:
    """Return a picture as lines that fit into `width` x `height` cells; each cell shows two pixels.

    `source` is a file, or pixels [channels, rows, columns] in grey or RGB. It is never enlarged beyond what divides
    evenly, so that pixels stay square. Without `colours` it is drawn in shades. Takes milliseconds and loads Pillow:
    call it in a thread. Raises `OSError` for a file that is no picture.
    """
    from PIL import Image

    image = _opened(source)
    scale = min(width / image.width, height * 2 / image.height, 1.0)
    size = max(1, round(image.width * scale)), max(1, round(image.height * scale))
    image = image.resize(size, Image.Resampling.BOX)
    pixels = image.load()
    assert pixels is not None
    lines = []
    for y in range(0, size[1], 2):
        line = Text(no_wrap=True, end="")
        for x in range(size[0]):
            above = pixels[x, y]
            below = pixels[x, y + 1] if y + 1 < size[1] else above
            assert isinstance(above, tuple) and isinstance(below, tuple)
            if colours:
                line.append("▀", Style(color=Color.from_rgb(*above), bgcolor=Color.from_rgb(*below)))
            else:
                light = (sum(above) + sum(below)) / (6 * 255)
                line.append(SHADES[round(light * (len(SHADES) - 1))])
        lines.append(line)
    return lines


def _opened(source: Path | NDArray[np.uint8]) -> Picture:
    from PIL import Image

    if isinstance(source, Path):
        with Image.open(source) as file:
            return file.convert("RGB")
    pixels = source[:3].transpose(1, 2, 0) if len(source) >= 3 else source[0]
    return Image.fromarray(pixels.copy()).convert("RGB")
