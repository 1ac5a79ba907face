"""Whether every split that training and evaluation need has good and bad clients."""

from __future__ import annotations

from collections.abc import Mapping

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from zigong.dataset.members import final_split
from zigong.errors import DataError
from zigong.instructions.tasks import main_task
from zigong.recipe import Recipe


def one_class_splits(counts: Mapping[tuple[str, str], int], recipe: Recipe) -> list[str]:
    """The splits that lack a class, as text.

    Args:
        counts: number of labels by split and outcome (good, bad).
        recipe: determines which split results are reported on.
    """
    found = []
    for split in ("train", "target", "select", final_split(recipe)):
        good, bad = (counts.get((split, outcome), 0) for outcome in ("good", "bad"))
        if not (good and bad):
            found.append(f"split {split} has {good:,} good and {bad:,} bad")
    return found


def require_both_classes(members: DataFrame, recipe: Recipe) -> None:
    """Refuses a dataset that no model can be trained or evaluated on, before anything is trained.

    Args:
        members: published rows of dataset_members of one dataset.
        recipe: defines the splits and the main question.

    Raises:
        DataError: a split has no sample of a class; the message names it.
    """
    outcome = F.when(F.col("label") == 1, "bad").otherwise("good").alias("outcome")
    counted = members.where(F.col("task") == main_task(recipe)).groupBy("split", outcome).count().collect()
    faults = one_class_splits({(row["split"], row["outcome"]): row["count"] for row in counted}, recipe)
    if faults:
        raise DataError(
            f"the dataset cannot be trained on: {'; '.join(faults)}",
            action="choose other observation dates, labels.horizons or split shares, or a larger delivery",
        )
