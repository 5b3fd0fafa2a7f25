"""`safedl run`, `plan` and `resume`: the driver's entry. Only here does the command line load torch."""

from __future__ import annotations

import os
import signal
import sys
import threading
import warnings
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from safedl.cli.concluding import ProfileName
from safedl.cli.output import data_only, drop_lost_output, even_unread, explain, note, print_rows
from safedl.errors import NotFoundError, SafedlError, UsageError
from safedl.events import Event
from safedl.workspace import Workspace

if TYPE_CHECKING:
    from safedl.pipeline.driver import Prepared, Request

Attacks = Annotated[list[str] | None, typer.Option("--attack", help="Only this attack (repeatable).", metavar="NAME")]
Defenses = Annotated[
    list[str] | None, typer.Option("--defense", help="Only this defense (repeatable).", metavar="NAME")
]
Seeds = Annotated[str | None, typer.Option(help="Seeds instead of the profile's: 0-2, or 0,3,7.", metavar="SEEDS")]
Workers = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        min=1,
        help="Stages at once (default: one per GPU; per core, up to 4). They share the cores: another number may mean "
        "other threads per stage, which are part of what a result is, and then stages are computed again.",
    ),
]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.", metavar="DEVICE")]
NoCache = Annotated[bool, typer.Option("--no-cache", help="Compute everything anew.")]
Json = Annotated[bool, typer.Option("--json", help="Print events as JSON Lines.")]


def run(
    context: typer.Context,
    profile: ProfileName,
    attack: Attacks = None,
    defense: Defenses = None,
    seeds: Seeds = None,
    workers: Workers = None,
    device: Device = "auto",
    no_cache: NoCache = False,
    stall: Annotated[
        float, typer.Option(min=1, help="Give a stage up after so many seconds without progress.", metavar="SECONDS")
    ] = 1800,
    detach: Annotated[bool, typer.Option("--detach", help="Leave the driver running on its own.")] = False,
    json: Json = False,
    experiment: Annotated[str | None, typer.Option(hidden=True)] = None,
) -> None:
    """Run a profile: attacks, defenses, measurements; finished stages are not repeated."""
    workspace: Workspace = context.obj
    path = workspace.find_profile(profile)
    if detach:
        uid = workspace.start(path, _options(attack, defense, seeds, workers, device, no_cache, stall))
        print(uid)
        note(f"running; follow it: safedl runs logs -f {uid}   stop it: safedl runs cancel {uid}")
        return
    outlive_terminal()
    request = _request(path, attack, defense, seeds, workers, device)
    _drive(workspace, replace(request, use_cache=not no_cache, stall=stall, experiment=experiment), json)


def resume(
    context: typer.Context,
    experiment: Annotated[str | None, typer.Argument(help="An experiment's uid; default: the last one.")] = None,
    json: Json = False,
) -> None:
    """Go on with an experiment: what is finished is kept, everything else is run."""
    workspace: Workspace = context.obj
    outlive_terminal()
    uid = workspace.find_experiment(experiment)
    workspace.take_back_cancel(uid)  # before the seconds of preparing: who cancels from now on means this driver
    _drive(workspace, saved_request(workspace, uid), json)


def plan(
    context: typer.Context,
    profile: ProfileName,
    attack: Attacks = None,
    defense: Defenses = None,
    seeds: Seeds = None,
    workers: Workers = None,
    device: Device = "auto",
    json: Annotated[bool, typer.Option("--json", help="Print an array of stages.")] = False,
) -> None:
    """Show what a run would do, and what of it is done already; runs nothing."""
    from safedl.cli.live import Preparation
    from safedl.pipeline.driver import prepare

    workspace: Workspace = context.obj
    path = workspace.find_profile(profile)
    with data_only(), Preparation() as preparation:
        request = _request(path, attack, defense, seeds, workers, device)
        prepared = prepare(workspace, request, preparation)
    rows = [
        {
            "stage": s.id if json else "  " * (2 if "/" in s.id else 1 if s.parent else 0) + s.label,
            "kind": s.kind,
            "seed": s.seed,
            "state": "done" if s.id in prepared.finished else "to do",
            **({"params": dict(s.params), "parent": s.parent, "key": prepared.keys[s.id]} if json else {}),
        }
        for s in prepared.plan.stages
    ]
    print_rows(rows, as_json=json, ways="--json")
    _say_skipped(prepared)
    todo = len(rows) - len(prepared.finished)
    note(f"{len(rows)} stages: {len(prepared.finished)} done, {todo} to do")


MOST_SEEDS = 1000
SPARE = ("seconds", "FPR", "TPR", "seed", "clean before", "adversarial before", "ASR before")
"""Columns of the summary that a narrow terminal goes without, the least interesting first."""


def parse_seeds(text: str) -> tuple[int, ...]:
    """Return the seeds that `0-2`, `0,3,7` or `5` mean. Raises `UsageError`."""
    from safedl.catalog.settings import SEEDS

    seeds: list[int] = []
    try:
        for part in text.split(","):
            first, dash, last = part.partition("-")
            low, high = int(first), int(last if dash else first)
            seeds += range(low, min(high, low + MOST_SEEDS) + 1)
    except ValueError as error:
        raise UsageError(f"--seeds {text}: write a range like 0-2 or a list like 0,3,7") from error
    if not seeds or min(seeds) < 0 or max(seeds) >= SEEDS or len(seeds) > MOST_SEEDS:
        raise UsageError(f"--seeds {text}: between one and a thousand seeds from 0 to {SEEDS - 1} are allowed")
    return tuple(dict.fromkeys(seeds))


def _request(
    path: Path, attacks: list[str] | None, defenses: list[str] | None, seeds: str | None, workers: int | None,
    device: str,
) -> Request:  # fmt: skip
    from safedl.pipeline.driver import Request
    from safedl.profile.load import load

    return Request(
        profile=load(path), attacks=tuple(attacks or ()), defenses=tuple(defenses or ()),
        seeds=parse_seeds(seeds) if seeds else None, workers=workers, device=device,
    )  # fmt: skip


def _options(
    attacks: list[str] | None, defenses: list[str] | None, seeds: str | None, workers: int | None,
    device: str, no_cache: bool, stall: float,
) -> list[str]:  # fmt: skip
    """Return the options of `safedl run` that mean the same request."""
    options = [f"--device={device}", f"--stall={stall}"]
    options += [f"--attack={name}" for name in attacks or ()] + [f"--defense={name}" for name in defenses or ()]
    options += [f"--seeds={seeds}"] if seeds else []
    options += [f"--workers={workers}"] if workers else []
    return options + (["--no-cache"] if no_cache else [])


def saved_request(workspace: Workspace, uid: str) -> Request:
    """Return the request that an experiment was started with. Raises `NotFoundError` if its files are gone."""
    from safedl.pipeline.driver import Request
    from safedl.profile.load import load

    saved = workspace.read_plan(uid)
    options = saved["config"]["options"]
    sequences = {k: tuple(options[k]) if options[k] is not None else None for k in ("attacks", "defenses", "seeds")}
    path = workspace.experiment_folder(uid) / "profile.yaml"
    if not path.is_file():
        raise NotFoundError(f"experiment {uid} has lost its profile: {path}")
    folders = tuple(Path(f) for f in saved["folders"])
    return Request(profile=load(path), folders=folders, experiment=uid, **{**options, **sequences})


def outlive_terminal() -> None:
    """Let the end of the terminal or of its connection stop nothing from now on, while data is read neither."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)


def _drive(workspace: Workspace, request: Request, json: bool) -> None:
    if request.scan:
        from safedl.cli.scan import conclude_scan

        conclude_scan(workspace, request, json)
    faults: list[Event] = []
    prepared, code, hanging = carry_out(workspace, request, json, faults)
    uid = prepared.request.experiment
    assert uid is not None
    if not json:
        print_rows(workspace.summary(uid), spare=SPARE, ways=f"safedl runs ls --experiment {uid} --csv")
        if not faults:  # else the report may be an older one, and the view has said why
            _say_decision(workspace, prepared)
    if code != 0:
        note(f"not everything is done; go on with: safedl resume {uid}")
    leave_as(code, hanging)


def carry_out(
    workspace: Workspace, request: Request, json: bool, faults: list[Event] | None = None
) -> tuple[Prepared, int, bool]:
    """Drive a request, showing how it goes; return what was prepared, the exit code, and whether a stage hangs.

    What failed of the experiment itself, apart from its stages, is added to `faults`.
    """
    from safedl.cli.live import Preparation, make_view
    from safedl.pipeline.driver import drive, prepare
    from safedl.pipeline.executor import STAGE_THREAD

    if not os.environ.get("SAFEDL_DEBUG"):
        warnings.simplefilter("ignore")  # what libraries say to developers; a run speaks through its events
    with data_only(), Preparation() as preparation:
        prepared = prepare(workspace, request, preparation)
    drop_lost_output()
    _say_skipped(prepared)
    try:
        with data_only() as stdout, make_view(stdout if json else None) as view:

            def listen(item: Event) -> None:
                if faults is not None and item["uid"] == prepared.request.experiment and item.get("level") == "error":
                    faults.append(item)
                with even_unread():  # files and store hear the rest
                    view.handle(item)

            code, hanging = drive(workspace, prepared, listen)
            drop_lost_output()
    except BaseException as error:
        if not any(thread.name.startswith(STAGE_THREAD) for thread in threading.enumerate()):
            raise
        _leave(explain(error))
    return prepared, code, hanging


def leave_as(code: int, hanging: bool) -> NoReturn:
    """End with an exit code: at once if a stage hangs or was interrupted."""
    if hanging or code == 130:
        _leave(code)
    raise typer.Exit(code)


def _leave(code: int) -> NoReturn:
    """End the process at once: a thread that still computes would keep the interpreter from it, or crash it."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _say_skipped(prepared: Prepared) -> None:
    for line in prepared.plan.skipped:
        note(line)


def _say_decision(workspace: Workspace, prepared: Prepared) -> None:
    """Say where the report lies, and what it comes to."""
    from safedl.conclusions.gather import conclude
    from safedl.conclusions.write import REPORT

    try:
        found = conclude(workspace.db, workspace.results, prepared.request.profile)
    except SafedlError as error:
        note(f"no report: {error}")
        return
    note(f"report: {workspace.results / REPORT}")
    note(found.verdict)
