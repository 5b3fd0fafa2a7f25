"""`safedl scan`: is this data poisoned, is this model? Suspects are taken as they came."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from safedl.cli.output import note, print_json, print_prose, print_rows
from safedl.cli.review import suspects_title
from safedl.cli.run import Device, NoCache, carry_out, leave_as, outlive_terminal
from safedl.errors import IncompleteError, UsageError
from safedl.workspace import Workspace

if TYPE_CHECKING:
    from safedl.pipeline.driver import Request
    from safedl.review import Suspect

SHOWN = 10


def scan(
    context: typer.Context,
    profile: Annotated[str | None, typer.Argument(help="A profile, instead of the options.", metavar="PROFILE")] = None,
    data: Annotated[
        str | None,
        typer.Option(help="Image folder, .npz or .parquet file, module, or a built-in data set.", metavar="PATH"),
    ] = None,
    trusted: Annotated[
        str | None,
        typer.Option(help="Images known to be clean, of the same classes and from the same source.", metavar="PATH"),
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="Architecture, or a module (default: cnn).", metavar="MODEL")
    ] = None,
    weights: Annotated[str | None, typer.Option(help="Weights of a model to inspect too.", metavar="FILE")] = None,
    epochs: Annotated[
        int | None, typer.Option(min=1, help="Passes over the data (default: by its size).", metavar="N")
    ] = None,
    false_alarm_rate: Annotated[
        float | None,
        typer.Option(
            help="Share of clean images that may score as high as what a detector flags (0.01).", metavar="SHARE"
        ),
    ] = None,
    device: Device = "auto",
    no_cache: NoCache = False,
    detach: Annotated[bool, typer.Option("--detach", help="Leave the driver running on its own.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print one object.")] = False,
    experiment: Annotated[str | None, typer.Option(hidden=True)] = None,
) -> None:
    """Scan data, and a model, for poison. Exit code 0: nothing found; 3: something found."""
    from safedl.pipeline.driver import Request
    from safedl.profile.load import check, load
    from safedl.profile.scanning import scan_document

    workspace: Workspace = context.obj
    if (profile is None) == (data is None):
        raise UsageError("name either a PROFILE or --data PATH")
    if profile is not None:
        given = {"--trusted": trusted, "--model": model, "--weights": weights, "--epochs": epochs,
                 "--false-alarm-rate": false_alarm_rate}  # fmt: skip
        if used := [name for name, value in given.items() if value is not None]:
            raise UsageError(f"{', '.join(used)}: with a profile these stand in it, in its sections training and scan")
        chosen = load(workspace.find_profile(profile))
    else:
        assert data is not None
        document = scan_document(
            data, trusted=trusted, model=model, weights=weights, epochs=epochs, false_alarm_rate=false_alarm_rate
        )
        chosen = check(document)
    if detach:
        path = workspace.find_profile(profile) if profile is not None else None
        more = {"--device": device, "--epochs": epochs, "--false-alarm-rate": false_alarm_rate}
        options = [f"{name}={value}" for name, value in more.items() if value is not None]
        options += ["--no-cache"] if no_cache else []
        uid = workspace.start_scan(data, trusted, model, weights, path, options)
        print(uid)
        note(f"running; follow it: safedl runs logs -f {uid}   stop it: safedl runs cancel {uid}")
        return
    outlive_terminal()
    request = Request(
        profile=chosen, scan=True, workers=1, device=device, use_cache=not no_cache, experiment=experiment
    )
    conclude_scan(workspace, request, json)


def conclude_scan(workspace: Workspace, request: Request, json: bool) -> NoReturn:
    """Carry out a scan, say what it found, and end the process."""
    prepared, code, hanging = carry_out(workspace, request, json=False)
    uid = str(prepared.request.experiment)
    if code == 0:
        code = tell(workspace, workspace.read_plan(uid)["runs"][0], json)
    else:
        note(f"the scan is not done; go on with: safedl resume {uid}")
    leave_as(code, hanging)


def tell(workspace: Workspace, uid: str, json: bool) -> int:
    """Print what a scan found and return the exit code: 3 if it found something."""
    from safedl.review import SUSPECTS, read_suspects

    document = workspace.result(uid)
    if document is None:
        raise IncompleteError(f"run {uid} has no result")
    folder = workspace.run_folder(uid)
    found = document["verdict"] != "no evidence"
    if json:
        listed = read_suspects(folder)
        print_json(_object(document, listed))
        return IncompleteError.exit_code if found else 0
    lines = [
        f"verdict: {document['verdict']}",
        *(f"  {line}" for line in document["evidence"]),
        f"at a false-alarm rate of {100 * document['false_alarm_rate']:.3g}% of clean images; not seen would be:",
        *(f"  {line}" for line in document["limits"]),
    ]
    print_prose("\n".join(lines))
    first = read_suspects(folder, 0, SHOWN)
    classes = document["class_names"]
    print_rows([_row(s, classes) for s in first], title=suspects_title(document["suspects"], SHOWN), ways="--json")
    if first:
        note(f"all of them: {folder / SUSPECTS}   as pictures: {folder / 'contact_sheet.png'}")
        note(f"decide about them: safedl review {uid}   or in the app, pane Review")
        note(f"without them: safedl export {uid} --data OUT.npz --model OUT.safetensors")
    note(f"report: {folder / 'report.md'}")
    return IncompleteError.exit_code if found else 0


def _object(document: dict[str, Any], suspects: list[Suspect]) -> dict[str, Any]:
    keys = ("verdict", "data_verdict", "evidence", "dismissed", "limits", "target_classes", "false_alarm_rate",
            "samples", "trusted_used", "detectors")  # fmt: skip
    return {
        **{key: document[key] for key in keys},
        "model": document.get("model_scan"),
        "classes": document["class_names"],
        "run": document["uid"],
        "suspicious": [asdict(suspect) for suspect in suspects],
    }


def _row(suspect: Suspect, classes: list[str]) -> dict[str, Any]:
    proposed = suspect.proposed_label
    return {
        "index": suspect.index,
        **({"file": Path(suspect.file).as_posix()} if suspect.file else {}),
        "given": classes[suspect.given_label],
        "proposed": None if proposed is None else classes[proposed],
        "score": suspect.score,
        "detectors": ", ".join(suspect.detectors),
    }
