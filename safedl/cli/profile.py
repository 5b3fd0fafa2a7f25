"""`safedl profile`: check, show, new."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from safedl.cli.concluding import ProfileName
from safedl.cli.output import note, print_json, print_prose
from safedl.errors import SafedlError, UsageError, nearest
from safedl.workspace import Workspace

if TYPE_CHECKING:
    from safedl.profile.schema import Profile
    from safedl.threats import Question

app = typer.Typer(help="Check, show and create profiles.", no_args_is_help=True)

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command()
def check(context: typer.Context, profile: ProfileName, json: Json = False) -> None:
    """Check a profile: exit code 0 if it is valid, 2 if not. Needs neither data nor torch."""
    from safedl.profile.files import absent_files
    from safedl.profile.load import load
    from safedl.profile.problems import ProfileError

    workspace: Workspace = context.obj
    path = workspace.find_profile(profile)
    try:
        checked = load(path)
    except SafedlError as error:
        if json:
            found = error.problems if isinstance(error, ProfileError) else ()
            problems = [{"path": p.path, "message": p.message} for p in found] or [{"path": "", "message": str(error)}]
            print_json({"profile": str(path), "valid": False, "problems": problems})
        raise
    defenses = sum(len(a.defenses) for a in checked.attacks)
    absent = absent_files(checked, workspace.root)
    if json:
        print_json({
            "profile": str(path), "valid": True, "name": checked.name, "runnable": not checked.missing,
            "attacks": len(checked.attacks), "defenses": defenses, "missing": list(checked.missing),
            "skipped": list(checked.skipped), "notes": [*checked.notes, *absent],
        })  # fmt: skip
        return
    print_prose(f"{path}: valid; attacks: {len(checked.attacks)}, defenses: {defenses}")
    _say(checked)
    for line in absent:
        note(line)


@app.command()
def show(context: typer.Context, profile: ProfileName, json: Json = False) -> None:
    """Show what a run of the profile goes by, every parameter written out."""
    from safedl.profile.load import load
    from safedl.profile.save import dump, resolved

    workspace: Workspace = context.obj
    checked = load(workspace.find_profile(profile))
    document = resolved(checked)
    if json:
        print_json({
            **document, "missing": list(checked.missing), "skipped": list(checked.skipped), "notes": list(checked.notes)
        })  # fmt: skip
        return
    print(dump(document), end="")
    _say(checked)


@app.command()
def new(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="The profile's name.", metavar="NAME")],
    answers: Annotated[
        Path | None, typer.Option(help="A YAML file with the answers, instead of questions.", metavar="FILE")
    ] = None,
    dataset: Annotated[
        str, typer.Option(help="A built-in data set, or a folder, .npz or .parquet file, or module.", metavar="DATA")
    ] = "digits",
    model: Annotated[
        str | None, typer.Option(help="A built-in model, or a module; else by the answers.", metavar="MODEL")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a profile of that name.")] = False,
) -> None:
    """Write a profile from seven questions, and which of the suggested threats to cover: attacks and defenses."""
    from safedl.profile.load import check as check_document
    from safedl.profile.names import check_name
    from safedl.profile.save import dump, store
    from safedl.threats import QUESTIONS, check_answers
    from safedl.threats.build import build_profile, explain

    workspace: Workspace = context.obj
    path = workspace.root / "profiles" / f"{check_name(name, 'NAME')}.yaml"
    if path.exists() and not force:
        raise UsageError(f"{path} exists already; replace it with --force")
    places = _absolute(dataset), _absolute(model) if model else None
    categories: list[str] | None = None
    if answers is not None:
        given = _read_answers(answers)
        checked = check_answers(given, str(answers))
        categories = given.get("threat_categories")
    elif _on_terminal():
        # With any answers: an unknown data set or model is refused before anything is asked.
        build_profile(name, {q.id: q.values[0] for q in QUESTIONS}, *places)
        checked, categories = _ask()
    else:
        raise UsageError("nobody to ask: standard input is no terminal; give --answers FILE (keys as in threat_model)")
    document = build_profile(name, checked, *places, categories)
    profile = check_document(document, path)
    reasons = explain(checked, document["threat_model"]["threat_categories"])
    lines = ["Written by `safedl profile new`. Threats:", *(f"  {line}" for line in reasons)]
    store(path, dump(document, "\n".join(lines)))
    for line in (*reasons, *profile.missing, *profile.notes):
        note(line)
    print(path)


def _on_terminal() -> bool:
    return sys.stdin.isatty()


def _say(profile: Profile) -> None:
    for line in (*profile.missing, *profile.skipped, *profile.notes):
        note(line)


def _read_answers(path: Path) -> dict[str, Any]:
    """Return the answers in a file: at its top, or in its section `threat_model`."""
    from safedl.profile import document
    from safedl.profile.load import read_text

    content = document.read(read_text(path), str(path))
    answers = content.get("threat_model", content)
    if not isinstance(answers, dict):
        raise UsageError(f"{path}: threat_model must be a mapping of questions to answers")
    categories = answers.get("threat_categories")
    if categories is not None and not (isinstance(categories, list) and all(isinstance(c, str) for c in categories)):
        raise UsageError(f"{path}: threat_categories must be a list of names")
    return answers


def _absolute(name: str) -> str:
    """Return a path independent of the current folder; names of built-in data sets and models stay as they are."""
    from safedl.catalog.datasets import DATASETS
    from safedl.catalog.models import MODELS

    builtin = name in DATASETS or name in MODELS
    return name if builtin or not Path(name).exists() else str(Path(name).absolute())


def _ask() -> tuple[dict[str, str], list[str]]:
    """Ask the seven questions and then for the threats to cover, the suggested ones first."""
    from safedl.threats import CATEGORIES, QUESTIONS, suggest

    answers = {question.id: _ask_one(number, question) for number, question in enumerate(QUESTIONS, start=1)}
    suggested = suggest(answers)
    note("\nSuggested threats:")
    for suggestion in suggested:
        note(f"  {suggestion.category}: {suggestion.reason}")
    note(f"  (all there are: {', '.join(CATEGORIES)})")
    while True:
        reply = typer.prompt(
            "Threats to cover, separated by commas", default=", ".join(s.category for s in suggested), err=True
        )
        chosen = [part.strip() for part in reply.split(",") if part.strip()]
        unknown = [category for category in chosen if category not in CATEGORIES]
        if not unknown:
            return answers, chosen
        for category in unknown:
            note(f"there is no threat '{category}'.{nearest(category, CATEGORIES)}")


def _ask_one(number: int, question: Question) -> str:
    note(f"\n{number}. {question.text}\n   {question.why}")
    for index, choice in enumerate(question.choices, start=1):
        note(f"   {index}) {choice.value:<16} {choice.help}", hang=20)
    while True:
        # With an empty default: without one, the prompt would come again and nothing said why.
        reply = typer.prompt("Number or name", default="", show_default=False, err=True).strip()
        if reply in question.values:
            return str(reply)
        if reply.isdecimal() and 1 <= int(reply) <= len(question.values):
            return question.values[int(reply) - 1]
        needed = "" if reply else "an answer is needed: "
        note(f"{needed}choose a number from 1 to {len(question.values)}, or one of {', '.join(question.values)}")
