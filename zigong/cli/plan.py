"""``zigong plan`` and ``zigong probe-device``: what a run would do and cost."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from zigong.cli.estimate import Lengths, estimate_run
from zigong.cli.shared import Overrides, RecipeFile, named_errors, named_run, require_base
from zigong.console import CONSOLE, say
from zigong.errors import ConfigError
from zigong.recipe import Recipe, load_recipe
from zigong.recipe.feasible import require_feasible
from zigong.recipe.source import lakehouse_key, source_mapping
from zigong.runs.steps import steps_of
from zigong.training.hardware import device_named


def plan_recipe(
    recipe: RecipeFile,
    overrides: Overrides = None,
    device: Annotated[
        str | None, typer.Option(help="a usual GPU such as a100-80gb, cpu, or a file of zigong probe-device")
    ] = None,
    like: Annotated[str | None, typer.Option(help="finished run whose lengths replace the upper bounds")] = None,
) -> None:
    """Show what a run would do: steps, samples x checkpoints x tokens, memory and time. Runs nothing.

    A training that does not fit into the memory of its device is refused.
    """
    with named_errors():
        loaded = load_recipe(recipe, overrides or [])
        source_mapping(loaded)
        require_feasible(loaded)
        lakehouse_key(loaded)
        table = Table(title=f"{loaded.name}: steps")
        for column in ("step", "engine", "reads", "writes"):
            table.add_column(column)
        for step in steps_of(loaded):
            table.add_row(step.name, step.engine, ", ".join(step.reads), ", ".join(step.writes))
        CONSOLE.print(table)
        if loaded.base.tiny is None:
            _require_base_if_here(loaded)
        lengths = None if like is None else Lengths.of(named_run(like, None, loaded.lakehouse.root))
        estimate = estimate_run(loaded, None if device is None else device_named(device), lengths)
        CONSOLE.print(estimate.as_table())
        if loaded.source.path is not None and not Path(loaded.source.path).expanduser().is_dir():
            say(f"[yellow]source.path {escape(loaded.source.path)} is not a folder on this machine[/]")
        estimate.require_fit()


def _require_base_if_here(recipe: Recipe) -> None:
    """The same where the base is on this machine; a plan may be made elsewhere."""
    from zigong.training.pretrained import gguf_file, located

    try:
        here = gguf_file(recipe.base) if recipe.base.gguf is not None else located(recipe.base)
    except ConfigError as absent:
        say(f"[yellow]{escape(absent.message)}[/]")
        return
    if here.exists():
        require_base(recipe)
    else:
        say(f"[yellow]base.gguf {escape(str(here))} is not a file on this machine[/]")


def probe_device(
    recipe: RecipeFile,
    overrides: Overrides = None,
    tokens: Annotated[int, typer.Option(min=2, help="tokens of a sample")] = 256,
    seconds: Annotated[float, typer.Option(min=1, help="time to spend, about")] = 20,
    output: Annotated[Path, typer.Option(help="path of the measured device, for plan --device")] = Path("device.json"),
) -> None:
    """Measure what this machine achieves in trainings of a recipe's model, with random weights and drawn samples."""
    from zigong.training.probe import probed_device

    with named_errors():
        found = probed_device(load_recipe(recipe, overrides or []), tokens=tokens, seconds=seconds)
        found.write(output)
        say(
            f"{found.name}: {found.flop_per_second / 1e12:.3g} TFLOP/s, {found.memory_gib:.0f} GiB "
            f"({found.origin}); zigong plan {recipe} --device {output}"
        )
