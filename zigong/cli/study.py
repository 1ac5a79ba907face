"""``zigong study``: experiments with a finished run."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
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

    from zigong.evaluation.influence_study.setting import Caps, StudySetting
    from zigong.runs.run import Run


SampleCap = Annotated[int, typer.Option(help="maximum of train samples, complete users")]
HeldOutCap = Annotated[int, typer.Option(help="maximum of samples of each held-out split, complete users")]
Resamples = Annotated[int, typer.Option(help="resamples of persons and trainings")]
TargetCap = Annotated[int, typer.Option(help="maximum of target samples, complete users")]


def influence(
    run_id: str,
    recipe: OnlyRecipe = None,
    root: Root = None,
    samples: SampleCap = 6000,
    targets: TargetCap = 1000,
    seeds: Annotated[int, typer.Option(help="repetitions of flips, agents and retrainings")] = 3,
    subsets: Annotated[int, typer.Option(help="retrained halves for the datamodel")] = 24,
) -> None:
    """Compare influence scores of a finished run with loss and chance: wrong labels, datamodel, retraining."""
    from zigong.evaluation.influence_study.setting import Caps, Sizes
    from zigong.evaluation.influence_study.study import flat_figures, influence_study

    with named_errors():
        run = named_run(run_id, recipe, root)
        with (
            _setting(run, Caps(samples=samples, targets=targets), splits=("final",)) as setting,
            progress("study (trainings)") as advance,
        ):
            tables = influence_study(
                setting, Sizes(seeds=seeds, subsets=subsets), seed=run.recipe.seed, advance=advance
            )
        _keep(run, tables, flat_figures(tables), prefix="study.")
        _say_sizes(setting)


def selection(
    run_id: str,
    recipe: OnlyRecipe = None,
    root: Root = None,
    samples: SampleCap = 6000,
    targets: TargetCap = 300,
    held_out: HeldOutCap = 4000,
    rules: Annotated[str, typer.Option(help="rules, separated by commas; all: every rule")] = "all",
    shares: Annotated[str, typer.Option(help="sizes of the choice as shares of the pool")] = "0.05,0.1,0.3,0.5,1",
    flipped: Annotated[str, typer.Option(help="shares of the labels that are flipped")] = "0,0.05,0.1,0.2",
    budgets: Annotated[str, typer.Option(help="epochs: equal passes; steps: equal optimiser steps")] = "epochs,steps",
    seeds: Annotated[int, typer.Option(help="seeds of shares from 0.2 on")] = 3,
    small_seeds: Annotated[int, typer.Option(help="seeds of smaller shares")] = 5,
    draws: Annotated[int, typer.Option(help="draws of each seed of smaller shares")] = 3,
    resamples: Resamples = 500,
) -> None:
    """Train on parts of the pool that different rules choose: is any better than chance? Resumes where it stopped."""
    from zigong.evaluation.influence_study.setting import Caps
    from zigong.evaluation.selection_study.figures import flat_figures, readable, study_table
    from zigong.evaluation.selection_study.plan import plan_of
    from zigong.evaluation.selection_study.trials import run_trials, store_of, without_next_events

    with named_errors():
        plan = plan_of(rules, shares, flipped, budgets, seeds=seeds, small_seeds=small_seeds, small_draws=draws)
        run = named_run(run_id, recipe, root)
        caps = Caps(samples=samples, targets=targets, held_out=held_out)
        with (
            _setting(run, caps, splits=("select", "final")) as read,
            progress("study (trainings)") as advance,
        ):
            setting = without_next_events(read)
            answered = run_trials(
                setting, plan, store_of(setting, run.folder / "study_selection"), advance=advance, seed=run.recipe.seed
            )
            table = study_table(setting, answered, choose_on="select", resamples=resamples, seed=run.recipe.seed)
        _keep(run, {"study_selection": table}, flat_figures(table), prefix="selection.", shown=readable)
        _say_sizes(setting)


def training(
    run_id: str,
    recipe: OnlyRecipe = None,
    root: Root = None,
    change: Annotated[
        list[str] | None,
        typer.Option(help="finetune.key=value, several separated by blanks; one option for each setting"),
    ] = None,
    samples: SampleCap = 20000,
    held_out: HeldOutCap = 10000,
    seeds: Annotated[int, typer.Option(help="trainings of each setting")] = 3,
    resamples: Resamples = 500,
) -> None:
    """Train the final model under changed settings of finetune: which is better than the recipe's? Resumes."""
    from zigong.evaluation.boosting_teacher import teacher_of
    from zigong.evaluation.influence_study.setting import Caps
    from zigong.evaluation.training_study.figures import flat_figures, readable, study_table
    from zigong.evaluation.training_study.trials import held_out_of, run_variants, variants_of
    from zigong.evaluation.trial_store import trial_store

    with named_errors():
        run = named_run(run_id, recipe, root)
        variants = variants_of(run.recipe, change or ())
        caps = Caps(samples=samples, targets=0, held_out=held_out)
        with (
            _setting(run, caps, splits=("select", "final")) as setting,
            progress("study (trainings)") as advance,
        ):
            taught = any(variant.recipe.finetune.distil.weight for variant in variants)
            teacher = teacher_of(_job(run), setting.base, ["train"])[0] if taught else None
            answered = run_variants(
                setting,
                variants,
                trial_store(setting, run.folder / "study_training", ("evaluation",)),
                seeds=range(run.recipe.seed, run.recipe.seed + seeds),
                teacher=teacher,
                advance=advance,
            )
            table = study_table(
                held_out_of(setting),
                answered,
                choose_on="select",
                resamples=resamples,
                confidence=run.recipe.evaluation.confidence,
                seed=run.recipe.seed,
            )
        _keep(run, {"study_training": table}, flat_figures(table, "training."), prefix="training.", shown=readable)
        _say_sizes(setting)


def runs(
    groups: Annotated[
        list[str],
        typer.Argument(help="settings and their runs, one per seed: NAME=RUN,RUN,RUN", metavar="GROUP..."),
    ],
    recipe: OnlyRecipe = None,
    root: Root = None,
    head: Annotated[str, typer.Option(help="card, or one of lm, fused, joint and boosted")] = "card",
    resamples: Resamples = 500,
) -> None:
    """Compare the models of finished runs with several seeds: which settings are better than those of the first group?

    The runs have equal observations, labels and split. The table is kept with the first run.
    """
    from zigong.evaluation.training_study.figures import flat_figures, readable, study_table
    from zigong.evaluation.training_study.finished import finished_answers, groups_of

    with named_errors():
        named = {name: [named_run(run, recipe, root) for run in ids] for name, ids in groups_of(groups).items()}
        held_out, answered = finished_answers(
            {name: [_job(run) for run in found] for name, found in named.items()}, head
        )
        first = next(iter(named.values()))[0]
        table = study_table(
            held_out,
            answered,
            choose_on="select",
            resamples=resamples,
            confidence=first.recipe.evaluation.confidence,
            seed=first.recipe.seed,
        )
        figures = flat_figures(table, f"runs.{head}.")
        _keep(first, {f"study_runs_{head}": table}, figures, prefix=f"runs.{head}.", shown=readable)


def _job(run: Run) -> Job:
    return Job(step="study", run=run, paths=LakehousePaths.at(run.recipe.lakehouse.root))


@contextmanager
def _setting(run: Run, caps: Caps, *, splits: Sequence[str]) -> Iterator[StudySetting]:
    """The samples of a run; ``final`` is its final split. Adapters are in a folder that is deleted at the end."""
    from zigong.dataset.members import final_split
    from zigong.evaluation.influence_study.setting import study_setting
    from zigong.instructions.tasks import main_task
    from zigong.release.serving import serving_base

    set_up_logging(run.run_id)
    job = _job(run)
    with tempfile.TemporaryDirectory(prefix="zigong-study-") as scratch:
        yield study_setting(
            job.sample_source(),
            run.recipe,
            task=main_task(run.recipe),
            held_out=[final_split(run.recipe) if split == "final" else split for split in splits],
            base=serving_base(job),
            caps=caps,
            scratch=Path(scratch),
        )


def _keep(
    run: Run,
    tables: Mapping[str, pd.DataFrame],
    figures: Mapping[str, float],
    *,
    prefix: str,
    shown: Callable[[pd.DataFrame], pd.DataFrame] = lambda table: table,
) -> None:
    """Writes and shows the tables; the figures replace those of a former study."""
    for name, table in tables.items():
        run.write_table(name, table.to_dict("records"))
        _show(name, shown(table))
    run.replace_metrics(prefix, figures)
    say(f"tables under {run.folder / 'tables'}")


def _say_sizes(setting: StudySetting) -> None:
    say(f"{len(setting.train):,} train samples, {len(setting.targets):,} targets, {len(setting.held_out):,} held out")


def _show(name: str, frame: pd.DataFrame) -> None:
    table = Table(title=name, title_justify="left")
    for column in frame.columns:
        table.add_column(column, justify="left" if frame[column].dtype == object else "right")
    for row in frame.itertuples(index=False):
        table.add_row(*(f"{value:.3f}" if isinstance(value, float) else str(value) for value in row))
    CONSOLE.print(table)
