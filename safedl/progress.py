"""What a long computation tells the outside: steps, curves, log lines. Cancelling comes back the same way."""

from __future__ import annotations

from collections.abc import Iterable


class Cancelled(Exception):  # noqa: N818 - it is a signal, not an error
    """Raised by `Progress.step` inside a computation that was asked to stop."""


class Progress:
    """Receives the progress of one stage; this base class ignores everything.

    Methods call `step` at least a few times a second, so that a cancel is noticed early.
    """

    def step(self, phase: str, done: int, total: int) -> None:
        """Report `done` of `total` units of `phase`. Raises `Cancelled` if the stage was asked to stop."""

    def metric(self, name: str, step: int, value: float) -> None:
        """Add one point to the curve `name` (loss per epoch, say)."""

    def log(self, message: str) -> None:
        """Say one line."""


SILENT = Progress()


class Part(Progress):
    """The steps of one of several equally long parts, told as steps of the whole. Curves are not passed on."""

    def __init__(self, whole: Progress, number: int, count: int) -> None:
        """Tell `whole` about part `number`, from 0, of `count`."""
        self.whole, self.number, self.count = whole, number, count

    def step(self, phase: str, done: int, total: int) -> None:
        """Report `done` of `total` units of this part. Raises `Cancelled` if the stage was asked to stop."""
        self.whole.step(phase, self.number * total + done, self.count * total)

    def log(self, message: str) -> None:
        """Say one line."""
        self.whole.log(message)


def seconds_left(stages: Iterable[tuple[str, float]], elapsed: float) -> float | None:
    """Return an estimate of the seconds that an experiment still takes, None at the very start.

    `stages`: the state of each, and the share of its present phase that is done, in [0, 1]. `elapsed` is in seconds:
    stages that are linked took none of them.
    """
    computed = [(state, share) for state, share in stages if state != "linked"]
    done = sum(0.8 * share if state == "running" else state != "queued" for state, share in computed)
    return elapsed / done * (len(computed) - done) if done > 0.5 else None
