"""`safedl list`: what can be chosen."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from safedl.cli.output import print_rows

app = typer.Typer(help="List attacks, defenses, data sets and models.", no_args_is_help=True)

Json = Annotated[bool, typer.Option("--json", help="Print everything, parameters included, as JSON.")]


@app.command()
def attacks(json: Json = False) -> None:
    """List the attacks; --json adds their parameters."""
    from safedl import catalog
    from safedl.catalog.defense_tags import recommended

    rows: list[dict[str, Any]] = []
    for spec in catalog.ATTACKS.values():
        row: dict[str, Any] = {"attack": spec.name, "category": spec.category, "summary": spec.summary}
        if json:
            row |= {
                "title": spec.title,
                "paper": spec.paper,
                "measure": spec.measure,
                "needs_clean_model": spec.needs_clean_model,
                "aliases": list(spec.aliases),
                "parameter_aliases": spec.param_aliases,
                "defenses": [tag.defense for tag in recommended(spec.name)],
                "parameters": catalog.parameter_table(spec.params),
            }
        rows.append(row)
    print_rows(rows, as_json=json, ways="--json")


@app.command()
def defenses(json: Json = False) -> None:
    """List the defenses; --json adds their parameters."""
    from safedl import catalog

    rows: list[dict[str, Any]] = []
    for spec in catalog.DEFENSES.values():
        row: dict[str, Any] = {"defense": spec.name, "kind": spec.kind}
        if json:
            row |= {
                "summary": spec.summary,
                "applies_to": list(spec.applies_to),
                "title": spec.title,
                "paper": spec.paper,
                "trusted": spec.trusted,
                "clean_model": spec.clean_model,
                "recipe": spec.recipe,
                "parameters": catalog.parameter_table(spec.params),
            }
        else:
            row |= {"applies to": ", ".join(spec.applies_to), "summary": spec.summary}
        rows.append(row)
    print_rows(rows, as_json=json, ways="--json")


@app.command()
def datasets(json: Json = False) -> None:
    """List the built-in data sets."""
    from safedl.catalog.datasets import DATASETS

    rows: list[dict[str, Any]] = []
    for spec in DATASETS.values():
        row: dict[str, Any] = {
            "dataset": spec.name,
            "shape": list(spec.shape) if json else "x".join(map(str, spec.shape)),
            "classes": spec.num_classes,
            "train": spec.train_size,
            "test": spec.test_size,
            "summary": spec.summary,
        }
        rows.append(row | ({"title": spec.title, "needs_download": spec.needs_download} if json else {}))
    print_rows(rows, as_json=json, ways="--json")


@app.command()
def models(json: Json = False) -> None:
    """List the built-in models; --json adds their parameters and layers."""
    from safedl import catalog
    from safedl.catalog.models import MODELS

    rows: list[dict[str, Any]] = []
    for spec in MODELS.values():
        row: dict[str, Any] = {"model": spec.name, "summary": spec.summary}
        if json:
            row |= {
                "title": spec.title,
                "layers": [name for name, layer in spec.layers.items() if layer.parameters],
                "parameters": catalog.parameter_table(spec.params),
            }
        else:
            row["parameters"] = ", ".join(spec.params.model_fields)
        rows.append(row)
    print_rows(rows, as_json=json, ways="--json")
