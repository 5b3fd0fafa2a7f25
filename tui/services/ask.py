"""Questions that take time are answered in threads; the answer comes back to the app's own."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from typing import TypeVar

from textual.dom import DOMNode
from textual.worker import Worker

from safedl.errors import SafedlError, surroundings

T = TypeVar("T")


def why(error: Exception) -> str:
    """Return what went wrong in words for a person; of a fault of our own, also its kind."""
    told = str(error) if isinstance(error, SafedlError) else surroundings(error)
    return told or f"{type(error).__name__}: {error}"


async def in_thread(question: Callable[[], T]) -> T:
    """Return what `question` returns, run in a daemon thread: leaving the app does not wait for it."""
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[T] = loop.create_future()

    def settle(result: T | None, error: BaseException | None) -> None:
        if answer.done():
            return
        if error is not None:
            answer.set_exception(error)
        else:
            answer.set_result(result)  # type: ignore[arg-type]

    def work() -> None:
        result, error = None, None
        try:
            result = question()
        except BaseException as raised:  # noqa: BLE001 - it is raised again where it is awaited
            error = raised
        with contextlib.suppress(RuntimeError):  # the app has been left
            loop.call_soon_threadsafe(settle, result, error)

    threading.Thread(target=work, daemon=True).start()
    return await answer


def ask(
    node: DOMNode,
    group: str,
    question: Callable[[], T],
    then: Callable[[T], None],
    failed: Callable[[Exception], None],
) -> None:
    """Answer `question` in a thread, then call `then` with it, or `failed` with its error.

    A later question of the same node and group replaces an earlier one, whose answer is dropped.
    """

    app = node.app

    async def work() -> None:
        try:
            answer = await in_thread(question)
        except Exception as error:  # noqa: BLE001 - whatever it is, the person is told and the app goes on
            failed(error)
            return
        if app.is_running:  # else the app is being left, and what the answer was for is gone
            then(answer)

    _: Worker[None] = node.run_worker(work, group=group, exclusive=True, exit_on_error=True)
