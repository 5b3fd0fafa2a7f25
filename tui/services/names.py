"""Names where there is little room: cut where they still tell one from another."""

from __future__ import annotations


def shortened(name: str, cells: int) -> str:
    """Return `attack/defense (detector)` in so many cells: the attack gives way first, then the middle of the rest."""
    if len(name) <= cells:
        return name
    attack, slash, rest = name.partition("/")
    if not slash:
        attack, rest = "", name
    attack = f"{attack[: max(4, cells - len(rest) - 2)]}…/" if slash else ""
    room = cells - len(attack)
    first = max(0, room - 1) // 2
    return attack + (rest if len(rest) <= room else f"{rest[:first]}…{rest[first + 1 - room :]}")
