"""Keys in the order in which they were typed, for widgets that take text."""

from __future__ import annotations

from typing import TYPE_CHECKING

from textual import events

# A mixin of its own at run time: as a widget it would hide the styles of the one that it is mixed into.
if TYPE_CHECKING:
    from textual.widget import Widget
else:
    Widget = object


MOVES = ("tab", "shift+tab")
"""Keys that are bound by the screen, and move the focus."""


class InOrder(Widget):
    """Base of a widget that takes text: what its own bindings do is done at once.

    Textual writes a character as soon as the widget sees it, but lets a key with a binding travel up to the app
    first. Of keys that come in a burst, as they do over a slow line, the characters would overtake the keys that
    move the cursor or empty the line. They all came to the widget that had the focus then: what follows a key that
    moves the focus is passed on.
    """

    async def _on_key(self, event: events.Key) -> None:
        focused = self.app.focused
        if focused is not None and focused is not self:
            event.stop()
            event.prevent_default()
            focused._forward_event(events.Key(event.key, event.character))
            return
        if event.is_printable:
            return
        active = self.screen.active_bindings.get(event.key)
        if active is not None and active.enabled and (active.node is self or event.key in MOVES):
            event.stop()
            event.prevent_default()
            await self.run_action(active.binding.action)
