"""Names where there is little room: cut where they still tell one from another."""

from __future__ import annotations

from collections.abc import Sequence


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


def apart(names: Sequence[str], cells: int) -> list[str]:
    """Return names as they are where their beginnings, in so many cells, tell them apart; else shortened to these."""
    cut = {name if len(name) <= cells else name[: max(0, cells - 1)] for name in names}
    return list(names) if len(cut) == len(set(names)) else [shortened(name, cells) for name in names]
