"""Trains tokenizer and tiny base on event lines known before the train cut-off: behavior_events -> a model folder."""

import shutil

from zigong.behavior.sequences import timelines_before
from zigong.console import progress
from zigong.dataset.members import may_pretrain
from zigong.incremental.state import known_timelines
from zigong.instructions.corpus import (
    answer_tokens,
    encoded,
    fixed_lines,
    history_lines,
    known_answers,
    read_lines,
    vocabulary_lines,
    write_lines,
)
from zigong.instructions.encode import LineEncoder
from zigong.runs.handover import TrainedBase
from zigong.runs.job import Job
from zigong.runs.launch import main
from zigong.training.base import train_base
from zigong.training.tokenizer import train_tokenizer


def build_base(job: Job) -> None:
    """The base never sees held-out users, nor anything known at or after the last training date."""
    recipe = job.recipe
    tiny = recipe.base.tiny
    if tiny is None:
        return
    profiles = job.read("user_profiles")
    cutoff = recipe.observations.train.last
    timelines = timelines_before(
        known_timelines(job), profiles, cutoff=cutoff, timezone=recipe.business_timezone
    ).where(may_pretrain(recipe))
    corpus = job.scratch
    rendered = history_lines(timelines, recipe.instructions, cutoff=cutoff, timezone=recipe.business_timezone)
    write_lines(rendered, corpus)
    lines = read_lines(corpus)
    shutil.rmtree(corpus)  # behaviour text must not be kept outside the tables
    answers = known_answers(profiles, recipe)
    words = vocabulary_lines(lines, profiles, recipe, answers)
    tokenizer = train_tokenizer(words, fixed_lines(recipe))
    encoder = LineEncoder(tokenizer.backend_tokenizer)
    folder = job.artefact_folder(TrainedBase)
    with progress("pre-training (steps)") as advance:
        manifest = train_base(
            encoded(lines, encoder, recipe, answers),
            tokenizer,
            tiny,
            answers=answer_tokens(encoder, recipe),
            seed=recipe.seed,
            torch_threads=recipe.engine.torch_threads,
            folder=folder,
            progress=lambda step, steps, loss: advance(step, steps, f"loss {loss:.3f}"),
        )
    job.leave(TrainedBase(folder=folder, base_digest=manifest.digest, tokenizer_digest=manifest.tokenizer_digest))
    job.run.add_metrics(
        {
            "base.parameters": manifest.parameters,
            "base.tokens": manifest.tokens,
            "base.final_loss": manifest.final_loss,
            "base.tokens_per_second": manifest.tokens / manifest.seconds,
        }
    )


if __name__ == "__main__":
    main("build_base", build_base)
