"""Computes the features of every sequence, for any model or service: user_sequences -> behavior_features."""

from zigong.incremental.features import publish_features, rebuild_features
from zigong.runs.job import Job
from zigong.runs.launch import main


def build_features(job: Job) -> None:
    """One row per sequence of the recipe's dates.

    With ``engine.incremental`` only partitions whose sequences changed since the last publish are built; the rows are
    the same.
    """
    dates = job.observation_dates()
    if job.recipe.engine.incremental:
        rebuild_features(job, dates)
    else:
        publish_features(job, dates, cells=dates.predicate)


if __name__ == "__main__":
    main("build_features", build_features)
