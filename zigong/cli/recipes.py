"""``zigong recipe``: the keys of a recipe, explained, and a draft of a new one."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from schemas.documents import yaml_content
from zigong.cli.shared import named_errors
from zigong.console import say
from zigong.errors import ConfigError
from zigong.files.atomic import write_text
from zigong.recipe import parse_recipe
from zigong.recipe.draft import RecipeDraft, drafted_recipe
from zigong.recipe.page import recipe_page
from zigong.recipe.reference import explained


def reference() -> None:
    """Print the page of every key with meaning, allowed values, default and example, as Markdown."""
    typer.echo(recipe_page(), nl=False)


def explain(key: Annotated[str, typer.Argument(help="path of a key or section, such as labels.horizons")]) -> None:
    """Explain a key of a recipe, or every key of a section."""
    with named_errors():
        for found in explained(key):
            say(f"[bold]{escape(found.path)}[/]  {escape(found.meaning)}")
            unit = f" ({found.unit})" if found.unit and found.unit != found.allowed else ""
            say(escape(f"    allowed: {found.allowed}{unit}; default: {found.default}; example: {found.example}"))


def new(
    name: Annotated[str, typer.Argument(help="name of the recipe: lower case letters, digits, _")],
    mapping: Annotated[str, typer.Option(help="name of a shipped mapping or path of a mapping file")],
    as_of: Annotated[datetime, typer.Option(formats=["%Y-%m-%d"], help="end of the data")],
    path: Annotated[
        str | None, typer.Option(help="folder of the raw files; without it the source is simulated")
    ] = None,
    window_months: Annotated[int, typer.Option(min=1, help="length of the performance window")] = 6,
    train_months: Annotated[int, typer.Option(min=1, help="observation dates of train")] = 6,
    reporting_lag_days: Annotated[int, typer.Option(min=0, help="until the events of a window are all known")] = 0,
    output: Annotated[Path | None, typer.Option(help="file to write; by default NAME.yaml")] = None,
) -> None:
    """Draft a recipe for a source, with splits as late as the data allows. Overwrites nothing."""
    with named_errors():
        target = output or Path(f"{name}.yaml")
        if target.exists():
            raise ConfigError(f"{target} exists", action="choose another --output, or delete the file")
        draft = RecipeDraft(
            name=name,
            mapping=mapping,
            path=path,
            as_of=as_of.date(),
            window_months=window_months,
            train_months=train_months,
            reporting_lag_days=reporting_lag_days,
        )
        text = drafted_recipe(draft)
        parse_recipe(yaml_content(text, origin=str(target)), origin=str(target))
        write_text(target, text)
        say(f"wrote {escape(str(target))}; next: `zigong plan {escape(str(target))}`")
