"""Builds each eligible client's history as of T: behavior_events, user_profiles -> user_sequences."""

from zigong.behavior.sequences import user_sequences
from zigong.job import Job, main


def build_sequences(job: Job) -> None:
    """One certified row per eligible observation point of the recipe's dates."""
    recipe, dates = job.recipe, job.observation_dates()
    max_events = recipe.instructions.max_events
    sequences = user_sequences(
        job.read("behavior_events"),
        job.read("user_profiles"),
        job.read("observation_points").where(dates.predicate),
        max_events=max_events,
        policy_id=f"newest-{max_events}-whole-months",
        timezone=recipe.business_timezone,
    )
    job.publish("user_sequences", sequences, cells=dates.predicate)


if __name__ == "__main__":
    main("build_sequences", build_sequences)
