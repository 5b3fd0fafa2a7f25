"""The command line: one file per noun. Commands import what they need when they run, so that `--help` is quick."""

from __future__ import annotations

import os
import sys

from safedl.cli.fullscreen import asked_for, open_app
from safedl.cli.output import drop_lost_output, explain, noticing_interrupts, ready


def main() -> None:
    """Run the command line; errors become one line on stderr and an exit code."""
    code = 0
    pressed: list[int] = []
    # Before NumPy is loaded: it and scikit-learn take a thread for each core otherwise, whatever share of them a stage
    # has, and where cores are busy threads that wait for each other cost ten times as much. PyTorch is told its share.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    ready()
    try:
        workspace = asked_for(sys.argv[1:])
        if workspace is not None:
            code = open_app(workspace)
        else:
            from safedl.cli.commands import invoke

            with noticing_interrupts() as pressed:
                code = invoke()
        print(end="", flush=True)  # here, where it is known what to do if nobody reads it
    except BrokenPipeError:
        drop_lost_output()
    except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 - said in one line, with an exit code
        code = 130 if pressed else explain(error)
    sys.exit(code)
