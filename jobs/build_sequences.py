"""Builds each eligible client's history as of T: behavior_events, user_profiles -> user_sequences."""

from zigong.behavior.sequences import user_sequences
from zigong.incremental.sequences import history_policy, rebuild_sequences, sequences_lineage
from zigong.runs.job import Job
from zigong.runs.launch import main


def build_sequences(job: Job) -> None:
    """One certified row per eligible observation point of the recipe's dates.

    With ``engine.incremental`` only what has changed since the rows were published is built; the rows are the same.
    """
    recipe, dates = job.recipe, job.observation_dates()
    if recipe.engine.incremental:
        rebuild_sequences(job, dates)
        return
    max_events = recipe.instructions.max_events
    sequences = user_sequences(
        job.read("behavior_events"),
        job.read("user_profiles"),
        job.read("observation_points").where(dates.predicate),
        max_events=max_events,
        policy_id=history_policy(max_events),
        timezone=recipe.business_timezone,
    )
    job.publish("user_sequences", sequences, cells=dates.predicate, lineage=sequences_lineage(job, dates))


if __name__ == "__main__":
    main("build_sequences", build_sequences)
