"""Trains tokenizer and tiny base on events known before the train cut-off, or converts a GGUF file -> a base folder."""

from pathlib import Path

from zigong.behavior.sequences import timelines_before
from zigong.console import progress
from zigong.dataset.members import may_pretrain
from zigong.incremental.known import of_source
from zigong.incremental.state import known_timelines
from zigong.instructions.base_text import BaseText, base_text
from zigong.instructions.corpus import answer_tokens, encoded
from zigong.instructions.encode import LineEncoder
from zigong.recipe import TinyBase
from zigong.release.serving import fitted_numbers
from zigong.runs.handover import FittedNumbers, TrainedBase
from zigong.runs.job import Job
from zigong.runs.launch import main
from zigong.training.base import BaseManifest, base_digest, train_base
from zigong.training.gguf_files import convert_gguf
from zigong.training.pretrained import gguf_file
from zigong.training.tokenizer import tokenizer_digest, train_tokenizer


def build_base(job: Job) -> None:
    """A trained base never sees held-out users, nor anything known at or after the last training date."""
    recipe = job.recipe
    if recipe.base.gguf is not None:
        _convert(job, gguf_file(recipe.base))
    if recipe.base.tiny is None:
        return
    profiles = of_source(job.read("user_profiles"), job)
    cutoff, zone = recipe.observations.train.last, recipe.business_timezone
    timelines = timelines_before(known_timelines(job), profiles, cutoff=cutoff, timezone=zone)
    numbers = fitted_numbers(job)
    if recipe.instructions.quantiles is not None and numbers is None:
        job.take(FittedNumbers)
    text = base_text(timelines.where(may_pretrain(recipe)), profiles, recipe, numbers=numbers, scratch=job.scratch)
    manifest = _train(job, recipe.base.tiny, text)
    job.run.add_metrics(manifest.figures())


def _convert(job: Job, file: Path) -> None:
    folder = job.artefact_folder(TrainedBase)
    parameters = convert_gguf(file, folder)
    job.leave(TrainedBase(folder=folder, base_digest=base_digest(folder), tokenizer_digest=tokenizer_digest(folder)))
    job.run.add_metrics({"base.parameters": parameters})


def _train(job: Job, tiny: TinyBase, text: BaseText) -> BaseManifest:
    recipe, folder = job.recipe, job.artefact_folder(TrainedBase)
    tokenizer = train_tokenizer(text.vocabulary, text.fixed)
    encoder = LineEncoder(tokenizer.backend_tokenizer)
    with progress("pre-training (steps)") as advance:
        manifest = train_base(
            encoded(text.lines, encoder, recipe, text.answers),
            tokenizer,
            tiny,
            answers=answer_tokens(encoder, recipe),
            seed=recipe.seed,
            torch_threads=recipe.engine.torch_threads,
            folder=folder,
            progress=lambda step, steps, loss: advance(step, steps, f"loss {loss:.3f}"),
        )
    job.leave(TrainedBase(folder=folder, base_digest=manifest.digest, tokenizer_digest=manifest.tokenizer_digest))
    return manifest


if __name__ == "__main__":
    main("build_base", build_base)
