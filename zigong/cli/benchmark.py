"""``zigong benchmark``: measured comparisons on public data."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from zigong.cli.shared import named_errors
from zigong.console import CONSOLE, progress, say, set_up_logging


def calm(
    data: Annotated[Path, typer.Option("--data", help="folder of the raw files (docs/calm.md)")],
    tasks: Annotated[
        list[str] | None, typer.Option("--tasks", help="task to run, repeatable; by default every one with a raw file")
    ] = None,
    base: Annotated[str, typer.Option("--base", help="tiny, or the folder of a model in Hugging Face format")] = "tiny",
    multi_task: Annotated[
        bool | None,
        typer.Option("--multi-task/--per-task", help="one model for all tasks, or one per task; by default both"),
    ] = None,
    seeds: Annotated[int, typer.Option("--seeds", min=1, help="seeds of every model")] = 3,
    example: Annotated[bool, typer.Option("--example/--no-example", help="show the example in prompts")] = True,
    threads: Annotated[int, typer.Option("--threads", min=1, help="threads of one torch operation")] = 1,
    out: Annotated[Path, typer.Option("--out", help="folder of figures, table and answers")] = Path("build/bench"),
) -> None:
    """CALM: train on its tasks, and compare with the paper, majority, logistic regression and LightGBM."""
    from zigong.calm.benchmark import MODES, Settings, flat_figures, run_benchmark, tasks_at
    from zigong.calm.table import markdown, shown
    from zigong.files.atomic import write_json, write_text

    with named_errors():
        set_up_logging("benchmark_calm")
        names = tasks_at(data, tasks or [])
        settings = Settings(
            base=None if base == "tiny" else Path(base),
            modes=MODES if multi_task is None else (MODES[multi_task],),
            seeds=seeds,
            example=example,
            torch_threads=threads,
        )
        with progress("CALM (trainings)") as advance:
            rows = run_benchmark(names, data, settings, folder=out / "calm", advance=advance)
        write_json(out / "calm.json", flat_figures(rows))
        write_text(out / "calm.md", markdown(rows))
        CONSOLE.print(shown(rows))
        say(f"{', '.join(names)}; figures in {out / 'calm.json'}, table with intervals in {out / 'calm.md'}")
