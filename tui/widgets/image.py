"""Pictures from half blocks: they work in any terminal that has colours, and as shades in one that has not."""

from __future__ import annotations

from pathlib import Path

from rich.color import Color
from rich.style import Style
from rich.text import Text

SHADES = " .:-=+*#%@"


def half_blocks(path: Path, width: int, height: int, *, colours: bool = True) -> list[Text]:
    """Return a picture as lines that fit into `width` x `height` cells; each cell shows two pixels.

    It is never enlarged beyond what divides evenly, so that pixels stay square. Without `colours` it is drawn in
    shades. Takes milliseconds and loads Pillow: call it in a thread. Raises `OSError` for a file that is no picture.
    """
    from PIL import Image

    with Image.open(path) as file:
        image = file.convert("RGB")
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
