"""Renders every sequence as a prompt and its token ids: user_sequences -> instruction_samples."""

from zigong.dataset.members import split_column
from zigong.dataset.sharing import prefix_sharing
from zigong.instructions.build import RenderPlan, instruction_samples
from zigong.release.serving import run_prompts, serving_base
from zigong.runs.handover import RenderedPrompts
from zigong.runs.job import Job
from zigong.runs.launch import main


def build_instructions(job: Job) -> None:
    """One sample per sequence and question of the recipe's dates; auxiliary ones only in the train split."""
    dates = job.observation_dates()
    plan = RenderPlan.of(run_prompts(job), str(serving_base(job)))
    sequences = job.read("user_sequences").where(dates.predicate)
    trains = split_column(job.recipe) == "train"
    job.publish("instruction_samples", instruction_samples(sequences, plan, trains=trains), cells=dates.predicate)
    sharing = prefix_sharing(job.read("instruction_samples").where(dates.predicate))
    shared = f"{sharing.shared:.0%} of {sharing.tokens:,} prompt tokens repeat the user's prompt before"
    job.leave(RenderedPrompts(shared_prefix=shared))
    job.run.add_metrics({"instructions.tokens": sharing.tokens, "instructions.tree_tokens": sharing.tree_tokens})


if __name__ == "__main__":
    main("build_instructions", build_instructions)
