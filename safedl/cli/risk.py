"""`safedl risk`: how severe, likely and visible a profile's attacks are, and what to do about them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from safedl.cli.concluding import ProfileName, measured
from safedl.cli.output import note, print_json, print_prose, print_rows
from safedl.errors import UsageError
from safedl.workspace import Workspace, shipped_profiles

if TYPE_CHECKING:
    from safedl.conclusions.gather import Conclusions


def risk(
    context: typer.Context,
    profile: ProfileName,
    json: Annotated[bool, typer.Option("--json", help="Print an object.")] = False,
    write: Annotated[
        bool, typer.Option("--write", help="Put the section risk_analysis into the profile; comments stay.")
    ] = False,
) -> None:
    """Show the risk of each attack that a profile's latest experiment ran, why, and what helps against it."""
    from safedl.risk.documents import risk_analysis

    workspace: Workspace = context.obj
    path, found = measured(workspace, profile)
    if json:
        print_json({
            "profile": found.profile.name,
            "experiment": found.experiment.record.uid if found.experiment else None,
            "attacks": risk_analysis(found.assessments, found.advice),
            "history": [{"at": p.at, "experiment": p.experiment, "scores": dict(p.scores)} for p in found.history],
        })  # fmt: skip
    else:
        _show(found)
    if write:
        _put_into(workspace, path, found)


def _show(found: Conclusions) -> None:
    from safedl.risk.assess import ranked
    from safedl.risk.documents import verdict
    from safedl.risk.recommend import ADVISED

    ordered = ranked(found.assessments)
    rows: list[dict[str, Any]] = []
    for a in ordered:
        advised = [r.defense for r in found.advice[a.attack].recommended][:ADVISED]
        rows.append({
            "attack": a.attack, "severity": a.severity, "probability": a.probability, "visibility": a.visibility,
            "risk": a.risk_score, "level": verdict(a), "try first": ", ".join(advised),
        })  # fmt: skip
    print_rows(rows, spare=("visibility", "probability", "severity"), ways="--json")
    for a in ordered:
        print_prose("\n".join([a.attack, *(f"  {reason}" for reason in a.reasons)]))
        for r in found.advice[a.attack].recommended:
            print_prose(f"  try {r.defense}: {r.reason}")
        for r in found.advice[a.attack].unhelpful:
            print_prose(f"  no help: {r.defense}: {r.reason}")
    if len(found.history) > 1:
        names = sorted({name for point in found.history for name in point.scores})
        print_rows(
            [{"when": p.at, "experiment": p.experiment, **{n: p.scores.get(n) for n in names}} for p in found.history],
            title="History of the risk",
        )


def _put_into(workspace: Workspace, path: Path, found: Conclusions) -> None:
    from safedl.profile.save import update
    from safedl.risk.documents import profile_section

    folder = path.resolve().parent
    if folder == shipped_profiles().resolve() and folder != (workspace.root / "profiles").resolve():
        raise UsageError(
            f"{path} comes with Safe-DL and stays as it is; copy it to {workspace.root / 'profiles'} first"
        )
    update(path, {"risk_analysis": profile_section(found.assessments, found.advice)})
    note(f"{path}: section risk_analysis is written")
