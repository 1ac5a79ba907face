"""Later runs in a copy of a finished lakehouse."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from tests.support.finished import FinishedRun
from zigong.recipe import load_recipe
from zigong.runs.card_values import JointModel
from zigong.runs.handover import Dataset, FinalModel, TrainedBase, TrainingMix
from zigong.runs.run import Run, open_run

PINNED = ("dataset_members", "instruction_samples", "user_sequences", "behavior_features", "training_mix")


def copied_lake(finished: FinishedRun, folder: Path) -> Path:
    """A copy of a finished lakehouse; its registry refers to the copy."""
    copy = Path(shutil.copytree(finished.root, folder))
    with closing(sqlite3.connect(copy / "registry" / "mlflow.db")) as database, database:
        for table, column in (
            ("experiments", "artifact_location"),
            ("runs", "artifact_uri"),
            ("model_versions", "source"),
        ):
            database.execute(f"UPDATE {table} SET {column} = replace({column}, ?, ?)", (finished.root, str(copy)))  # noqa: S608
    return copy


def later_run(finished: FinishedRun, root: Path, changes: Sequence[str]) -> Run:
    """Another run in the copy, with a changed recipe, completed up to its own model."""
    recipe = load_recipe(finished.recipe_file, [f"lakehouse.root={root}", *changes])
    run, first = open_run(recipe, root / "_runs", "later"), finished.run.manifest()
    for table in PINNED:
        run.pin(table, first["tables"][table])
    shutil.copytree(root / "_runs" / finished.run_id / "artifacts", run.folder / "artifacts")
    for value in (finished.run.take(Dataset), finished.run.take(TrainingMix)):
        run.leave(value)
    for model in (finished.run.take(TrainedBase), finished.run.take(FinalModel), finished.run.take(JointModel)):
        run.leave(replace(model, folder=run.artefact_folder(type(model))))
    return run
