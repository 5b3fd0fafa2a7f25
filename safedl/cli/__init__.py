"""The command line: one file per noun. Commands import what they need when they run, so that `--help` is quick."""

from __future__ import annotations

import os
import sys

from safedl.cli.fullscreen import asked_for, open_app
from safedl.cli.output import note
from safedl.errors import SafedlError


def main() -> None:
    """Run the command line; errors become one line on stderr and an exit code."""
    try:
        workspace = asked_for(sys.argv[1:])
        if workspace is not None:
            code = open_app(workspace)
        else:
            from safedl.cli.commands import invoke

            code = invoke()
    except SafedlError as error:
        note(f"error: {error}")
        code = error.exit_code
    except KeyboardInterrupt:
        code = 130
    except BrokenPipeError:
        # Whoever read our output has gone; keep the interpreter from complaining about it at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    except Exception as error:
        if os.environ.get("SAFEDL_DEBUG"):
            raise
        note(f"internal error: {type(error).__name__}: {error} (SAFEDL_DEBUG=1 shows where)")
        code = 1
    sys.exit(code)
