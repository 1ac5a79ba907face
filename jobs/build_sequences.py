"""Builds each eligible client's history as of T: behavior_events, user_profiles -> user_sequences."""

from zigong.incremental.sequences import due_sequences, rebuild_sequences, sequences_lineage
from zigong.instructions.currencies import require_one_currency
from zigong.runs.job import Job
from zigong.runs.launch import main


def build_sequences(job: Job) -> None:
    """One certified row per eligible observation point of the recipe's dates.

    With ``engine.incremental`` only what changed since the last publish is built; the rows are the same.
    """
    dates = job.observation_dates()
    if job.recipe.engine.incremental:
        rebuild_sequences(job, dates)
    else:
        sequences = due_sequences(job, job.read("observation_points").where(dates.predicate))
        job.publish("user_sequences", sequences, cells=dates.predicate, lineage=sequences_lineage(job, dates))
    require_one_currency(job.read("user_sequences").where(dates.predicate), job.recipe.instructions)


if __name__ == "__main__":
    main("build_sequences", build_sequences)
