"""`safedl check` and `safedl note`: may the model ship, and what people say to the checklist."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Annotated

import typer

from safedl.cli.concluding import ProfileName, known_about
from safedl.cli.output import note as say
from safedl.cli.output import print_json, print_prose, print_rows
from safedl.errors import IncompleteError, NotFoundError, UsageError, nearest
from safedl.workspace import Workspace


def check(
    context: typer.Context,
    profile: ProfileName,
    json: Annotated[bool, typer.Option("--json", help="Print an object.")] = False,
) -> None:
    """Say whether a profile's model may ship: exit code 0 for go, 3 for no-go. Reads the store, runs nothing."""
    workspace: Workspace = context.obj
    _, found = known_about(workspace, profile)
    decision = found.decision
    if json:
        print_json({
            "profile": found.profile.name,
            "experiment": found.experiment.record.uid if found.experiment else None,
            "verdict": decision.verdict,
            "reasons": list(decision.reasons),
            "checklist": [item.as_dict() for item in decision.checklist],
        })  # fmt: skip
    else:
        for item in decision.checklist:
            print_prose(f"{item.status:<14}  {item.title}: {item.detail}", hang=16)
        print_prose(found.verdict)
    if not decision.go:
        raise typer.Exit(IncompleteError.exit_code)


def note(
    context: typer.Context,
    profile: ProfileName,
    item: Annotated[str | None, typer.Argument(help="The checklist's item; without it, all are listed.")] = None,
    text: Annotated[str, typer.Option(help="What was done, and where it is written down.", metavar="TEXT")] = "",
    owner: Annotated[str, typer.Option(help="Who answers for it.", metavar="NAME")] = "",
    on: Annotated[str | None, typer.Option("--date", help="When (YYYY-MM-DD); default: today.", metavar="DATE")] = None,
    waive: Annotated[str, typer.Option(help="Why the item may stay as it is; needs --owner.", metavar="REASON")] = "",
    remove: Annotated[bool, typer.Option("--remove", help="Take the answer back.")] = False,
) -> None:
    """Answer an item of a profile's deployment checklist: settle it, or waive a failed check."""
    from safedl.conclusions import notes
    from safedl.decision.answers import Answer

    workspace: Workspace = context.obj
    _, found = known_about(workspace, profile)
    items = {i.id: i for i in found.decision.checklist}
    if item is None:
        if text or owner or on or waive or remove:
            raise UsageError(f"name the item that this is about; they are listed by: safedl note {profile}")
        print_rows([
            {"item": i.id, "status": i.status, "title": i.title, "note": i.answer.note if i.answer else None,
             "owner": i.answer.owner if i.answer else None, "date": i.answer.date if i.answer else None}
            for i in items.values()
        ])  # fmt: skip
        return
    if item not in items:
        raise NotFoundError(f"the checklist has no item '{item}'; it has: {', '.join(items)}.{nearest(item, items)}")
    if waive.strip() and not owner.strip():
        raise UsageError("--waive needs --owner: somebody must answer for it")
    if items[item].automatic and not remove and not waive.strip():
        raise UsageError(f"'{item}' is checked automatically; --waive REASON lifts it, --remove takes that back")
    answer = Answer(done=not waive.strip(), note=text, owner=owner, date=_date(on), waiver=waive)
    path = notes.change(workspace.results, found.profile.name, item, None if remove else answer)
    say(f"{path}: {item} {'removed' if remove else 'waived' if waive.strip() else 'done'}")


def _date(text: str | None) -> date:
    try:
        return date.fromisoformat(text) if text else datetime.now(UTC).date()
    except ValueError as error:
        raise UsageError(f"--date {text}: write it as 2026-01-31") from error
