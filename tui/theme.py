"""Themes beside those of Textual: colours are never the only sign, so any of them will do."""

from __future__ import annotations

from textual.theme import Theme

DARK = Theme(
    name="safedl-dark", dark=True, primary="#6ea8fe", secondary="#4c8dae", accent="#e8b04b", foreground="#d8dee9",
    background="#10141a", surface="#161b22", panel="#1f2630", success="#7fc97f", warning="#e8b04b", error="#ef6f6c",
    variables={"block-cursor-background": "#2f4a73", "block-cursor-foreground": "#ffffff",
               "block-cursor-blurred-background": "#232c3a"},
)  # fmt: skip
LIGHT = Theme(
    name="safedl-light", dark=False, primary="#1f5fbf", secondary="#2d6f8e", accent="#a85b00", foreground="#1b1f24",
    background="#fbfaf7", surface="#f3f1ec", panel="#e6e3dc", success="#1a7f37", warning="#8a5a00", error="#b3261e",
    variables={"block-cursor-background": "#bcd3f7", "block-cursor-foreground": "#000000",
               "block-cursor-blurred-background": "#dfe6f1"},
)  # fmt: skip
HIGH_CONTRAST = Theme(
    name="high-contrast", dark=True, primary="#ffff00", secondary="#00ffff", accent="#ffff00", foreground="#ffffff",
    background="#000000", surface="#000000", panel="#000000", success="#00ff00", warning="#ffff00", error="#ff6060",
    variables={"block-cursor-background": "#ffffff", "block-cursor-foreground": "#000000",
               "block-cursor-blurred-background": "#404040", "text-muted": "#ffffff"},
)  # fmt: skip
OWN = (DARK, LIGHT, HIGH_CONTRAST)
NAMES = (*(t.name for t in OWN), "ansi-dark", "ansi-light")
"""What `next theme` goes through; the palette offers all."""
