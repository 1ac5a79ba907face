"""``zigong study``: experiments with a finished run."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from zigong.cli.shared import OnlyRecipe, Root, named_errors, named_run
from zigong.console import CONSOLE, progress, say, set_up_logging
from zigong.lakehouse.paths import LakehousePaths
from zigong.runs.job import Job

if TYPE_CHECKING:
    import pandas as pd


def influence(
    run_id: str,
    recipe: OnlyRecipe = None,
    root: Root = None,
    samples: Annotated[int, typer.Option(help="maximum of train samples, complete users")] = 6000,
    targets: Annotated[int, typer.Option(help="maximum of target samples, complete users")] = 1000,
    seeds: Annotated[int, typer.Option(help="repetitions of flips, agents and retrainings")] = 3,
    subsets: Annotated[int, typer.Option(help="retrained halves for the datamodel")] = 24,
) -> None:
    """Compare influence scores of a finished run with loss and chance: wrong labels, datamodel, retraining."""
    from zigong.dataset.members import final_split
    from zigong.evaluation.influence_study.setting import Sizes, study_setting
    from zigong.evaluation.influence_study.study import flat_figures, influence_study
    from zigong.instructions.tasks import main_task
    from zigong.release.serving import serving_base

    with named_errors():
        run = named_run(run_id, recipe, root)
        set_up_logging(run.run_id)
        job = Job(step="study_influence", run=run, paths=LakehousePaths.at(run.recipe.lakehouse.root))
        sizes = Sizes(samples=samples, targets=targets, seeds=seeds, subsets=subsets)
        with tempfile.TemporaryDirectory(prefix="zigong-study-") as scratch, progress("study (trainings)") as advance:
            setting = study_setting(
                job.sample_source(),
                run.recipe,
                task=main_task(run.recipe),
                held_out=final_split(run.recipe),
                base=serving_base(job),
                sizes=sizes,
                scratch=Path(scratch),
            )
            tables = influence_study(setting, sizes, seed=run.recipe.seed, advance=advance)
        for name, table in tables.items():
            run.write_table(name, table.to_dict("records"))
            _show(name, table)
        run.add_metrics(flat_figures(tables))
        say(
            f"{len(setting.train):,} train samples, {len(setting.targets):,} targets, "
            f"{len(setting.held_out):,} held out; tables under {run.folder / 'tables'}"
        )


def _show(name: str, frame: pd.DataFrame) -> None:
    table = Table(title=name, title_justify="left")
    for column in frame.columns:
        table.add_column(column, justify="left" if frame[column].dtype == object else "right")
    for row in frame.itertuples(index=False):
        table.add_row(*(f"{value:.3f}" if isinstance(value, float) else str(value) for value in row))
    CONSOLE.print(table)
