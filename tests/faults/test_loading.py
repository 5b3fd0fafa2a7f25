"""What stages load when they need it: packages whose modules import each other are loaded by one thread at a time."""

from __future__ import annotations

import threading
import time
from importlib.machinery import SourceFileLoader
from types import ModuleType

from safedl.pipeline import lab
from safedl.pipeline.executor import STAGE_THREAD
from safedl.workspace import Workspace
from tests.faults import harness


def let_loads_meet() -> None:
    """Run two stages at once, whatever the number of cores, and let them load scikit-learn at once if they may.

    The one that begins is held until the other one waits for it, with modules half loaded.
    """
    lab.count_cores = lambda: 2
    execute, first, met = SourceFileLoader.exec_module, list[threading.Thread](), threading.Event()

    def held(loader: SourceFileLoader, module: ModuleType) -> None:
        here = threading.current_thread()
        if module.__name__ == "sklearn" and here.name.startswith(STAGE_THREAD):
            first.append(here)
            if met.wait(3):  # in vain, where nobody else loads anything until this one is done
                time.sleep(0.3)
        elif module.__name__ == "sklearn.utils._metadata_requests" and here not in first:
            met.set()  # it asks for `sklearn` itself next
        execute(loader, module)

    SourceFileLoader.exec_module = held  # type: ignore[method-assign]


def test_two_stages_that_load_the_same_packages_at_once(workspace: Workspace, undisturbed: Workspace) -> None:
    driver = harness.Driver(workspace.root, "run", "small", before=let_loads_meet)
    assert driver.wait() == 0, driver.said()
    assert harness.documents(workspace) == harness.documents(undisturbed)
