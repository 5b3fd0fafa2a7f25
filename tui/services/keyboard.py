"""Keys are passed on one by one, each to where the one before has led: over SSH several may come at once."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial

from textual import events
from textual.app import App
from textual.dom import DOMNode
from textual.widgets import Input, TextArea

Pressed = events.Key | events.Paste
ROUNDS = 2
"""A key climbs to the app, which acts; what that says climbs from the same widget again, and moves the focus."""
LONGEST = 5.0
"""Seconds that a key waits for the one before at most."""
LOOK = 0.05
"""Seconds between looks at whether a widget is still there."""


class Keyboard:
    """What was typed and not passed on yet."""

    def __init__(self, app: App[None], pass_on: Callable[[events.Event], Awaitable[None]]) -> None:
        """`pass_on` gives a key to the widget that has the focus."""
        self.app, self._pass_on = app, pass_on
        self._waiting: deque[Pressed] = deque()
        self._task: asyncio.Task[None] | None = None

    async def press(self, event: Pressed) -> None:
        """Pass a key on, at once unless one before it has not had its effect yet."""
        if self._task is not None and not self._task.done():
            self._waiting.append(event)
            return
        target = self._target
        await self._pass_on(event)
        if not _is_text(event, target):
            self._task = asyncio.create_task(self._follow(target))

    @property
    def _target(self) -> DOMNode:
        return self.app.focused or self.app.screen

    async def _follow(self, target: DOMNode) -> None:
        """Wait for the effect of the key that was given to a widget, then pass on those that came meanwhile."""
        await self._settled(target)
        while self._waiting and self.app.is_running:
            target, event = self._target, self._waiting.popleft()
            self.app.call_later(partial(self._pass_on, event))
            if not _is_text(event, target):
                await self._settled(target)

    async def _settled(self, target: DOMNode) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(LONGEST):
                await self._caught_up(self.app)
                for _ in range(ROUNDS):
                    for node in target.ancestors_with_self:
                        await self._caught_up(node)
                await self._caught_up(self.app.screen)  # it may be new, and give the focus to its first widget

    async def _caught_up(self, node: DOMNode) -> None:
        """Wait until a widget has dealt with all that it was told so far, or is gone."""
        done = asyncio.Event()
        asked = node.call_later(done.set)
        while asked and not done.is_set() and node.is_attached and self.app.is_running:
            with suppress(TimeoutError):
                await asyncio.wait_for(done.wait(), LOOK)


def _is_text(event: Pressed, target: DOMNode) -> bool:
    """Return whether a field just takes up what was typed: that moves nothing, so the next key need not wait."""
    typed = isinstance(event, events.Paste) or event.is_printable
    return typed and isinstance(target, Input | TextArea)
