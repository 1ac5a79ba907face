"""Trains a tiny base, or a named one further, on events known before the train cut-off, or converts a GGUF file."""

import shutil
from pathlib import Path

from pyspark.sql import DataFrame

from zigong.behavior.sequences import timelines_before
from zigong.console import progress
from zigong.dataset.members import may_pretrain
from zigong.incremental.known import of_source
from zigong.incremental.state import known_timelines
from zigong.instructions.base_text import base_text, timeline_lines
from zigong.instructions.corpus import answer_tokens, encoded, encoded_events
from zigong.instructions.encode import LineEncoder
from zigong.instructions.numbers import NumberWords
from zigong.recipe import ContinuedBase, TinyBase
from zigong.release.serving import fitted_numbers
from zigong.runs.handover import FittedNumbers, TrainedBase
from zigong.runs.job import Job
from zigong.runs.launch import main
from zigong.training.base import BaseManifest, base_digest, train_base
from zigong.training.continued import continue_base
from zigong.training.gguf_files import convert_gguf
from zigong.training.pretrained import gguf_file, require_usable
from zigong.training.tokenizer import tokenizer_digest, train_tokenizer


def build_base(job: Job) -> None:
    """A base that is trained here never sees held-out users, nor anything known at or after the last training date."""
    base, manifest = job.recipe.base, None
    if base.tiny is not None:
        manifest = _train(job, base.tiny)
    elif base.continued is not None:
        manifest = _continue(job, base.continued)
    elif base.gguf is not None:
        _convert(job)
    if manifest is not None:
        folder = job.artefact_folder(TrainedBase)
        job.leave(TrainedBase(folder=folder, base_digest=manifest.digest, tokenizer_digest=manifest.tokenizer_digest))
        job.run.add_metrics(manifest.figures())


def _convert(job: Job) -> None:
    folder = job.artefact_folder(TrainedBase)
    parameters = convert_gguf(gguf_file(job.recipe.base), folder)
    job.leave(TrainedBase(folder=folder, base_digest=base_digest(folder), tokenizer_digest=tokenizer_digest(folder)))
    job.run.add_metrics({"base.parameters": parameters})


def _timelines(job: Job, profiles: DataFrame) -> DataFrame:
    """The timelines of the users who may be learned from, as known before the last training date."""
    recipe = job.recipe
    cutoff, zone = recipe.observations.train.last, recipe.business_timezone
    known = timelines_before(known_timelines(job), profiles, cutoff=cutoff, timezone=zone)
    return known.where(may_pretrain(recipe))


def _numbers(job: Job) -> NumberWords | None:
    numbers = fitted_numbers(job)
    if job.recipe.instructions.quantiles is not None and numbers is None:
        job.take(FittedNumbers)
    return numbers


def _train(job: Job, tiny: TinyBase) -> BaseManifest:
    recipe = job.recipe
    profiles = of_source(job.read("user_profiles"), job)
    text = base_text(_timelines(job, profiles), profiles, recipe, numbers=_numbers(job), scratch=job.scratch)
    tokenizer = train_tokenizer(text.vocabulary, text.fixed)
    encoder = LineEncoder(tokenizer.backend_tokenizer)
    with progress("pre-training (steps)") as advance:
        return train_base(
            encoded(text.lines, encoder, recipe, text.answers),
            tokenizer,
            tiny,
            answers=answer_tokens(encoder, recipe),
            seed=recipe.seed,
            torch_threads=recipe.engine.torch_threads,
            folder=job.artefact_folder(TrainedBase),
            progress=lambda step, steps, loss: advance(step, steps, f"loss {loss:.3f}"),
        )


def _continue(job: Job, continued: ContinuedBase) -> BaseManifest:
    recipe = job.recipe
    named = _named(job)
    timelines = _timelines(job, of_source(job.read("user_profiles"), job))
    lines = timeline_lines(timelines, recipe, numbers=_numbers(job), scratch=job.scratch / "lines")
    with progress("further pre-training (steps)") as advance:
        manifest = continue_base(
            named,
            encoded_events(lines, LineEncoder.of(named)),
            continued,
            seed=recipe.seed,
            torch_threads=recipe.engine.torch_threads,
            folder=job.artefact_folder(TrainedBase),
            progress=lambda step, steps, loss: advance(step, steps, f"loss {loss:.3f}"),
        )
    shutil.rmtree(job.scratch, ignore_errors=True)  # a converted base
    return manifest


def _named(job: Job) -> Path:
    """The folder of the base that the recipe names; a GGUF file is converted into one."""
    named = require_usable(job.recipe)
    if named is not None:
        return named
    folder = job.scratch / "converted"
    convert_gguf(gguf_file(job.recipe.base), folder)
    return folder


if __name__ == "__main__":
    main("build_base", build_base)
