"""The estimate of ``zigong plan``: samples x checkpoints x tokens, memory and time, before anything runs.

The counts are upper bounds from the recipe: every client is observed at every date, with a history of ``max_events``.


"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.table import Table

from zigong.cli.sampled_tokens import SampledTokens, sampled_tokens
from zigong.errors import ConfigError
from zigong.instructions.render import asked_line
from zigong.instructions.tasks import Tasks, load_tasks
from zigong.recipe import Recipe
from zigong.recipe.source import source_mapping
from zigong.training.hardware import CPU, DEFAULT_GPU, Device, device_named
from zigong.training.model_size import ModelSize, base_folder, model_size
from zigong.training.pass_costs import (
    pretraining_flop,
    pretraining_memory_gib,
    training_flop,
    training_memory_gib,
)

if TYPE_CHECKING:
    from zigong.runs.run import Run

START_SECONDS = 10.0  # of a step: its workers start and load the model
SCORING = "score influence"  # the stage that training workers do not share
LARGE_MODEL = 100_000_000  # from this size on the plan assumes a GPU


@dataclass(frozen=True, kw_only=True)
class Lengths:
    """What the samples of a finished run take.

    Attributes:
        samples: number of train samples.
        tokens: mean tokens of a sample.
        in_trees: mean tokens that a sample adds to the trees of all dates of its user.
        targets: number of targets of influence; None: as many as the recipe allows.
    """

    samples: int
    tokens: float
    in_trees: float
    targets: int | None = None

    @classmethod
    def of(cls, run: Run) -> Lengths:
        """The lengths of a run.

        Raises:
            ConfigError: it has no agent yet.
        """
        found, rows = run.metrics(), "rows.instruction_samples.published"
        needed = ("agent.samples", "instructions.tokens", "instructions.tree_tokens", rows)
        absent = [name for name in needed if name not in found]
        if absent:
            raise ConfigError(f"run {run.run_id} has no {', '.join(absent)}", action="name a run with an agent")
        return cls(
            samples=int(found["agent.samples"]),
            tokens=found["instructions.tokens"] / found[rows],
            in_trees=found["instructions.tree_tokens"] / found[rows],
            targets=int(found["influence.targets"]) if "influence.targets" in found else None,
        )


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """Size of a run before it starts.

    Attributes:
        samples: upper bound of train samples; None when it depends on the data.
        tokens: upper bound for one sample, question and answer included.
        lengths: those of a finished run, which the seconds are of; None: they are of the bounds.
        event_tokens: mean tokens of a drawn event line by the tokenizer of a pretrained base; None: it is not here, or
            the base is tiny, whose tokens are words.
        parameters: upper bound; None if the base is neither here nor has its size in the recipe.
        memory_gib: weights, gradients, optimiser and activations of one batch of the longest samples, of the larger
            training; None without a size.
        seconds: by stage, on the device.
        device: what a worker computes on.
        workers: of the trainings.
    """

    samples: int | None
    checkpoints: int
    tokens: int
    lengths: Lengths | None
    event_tokens: float | None
    parameters: int | None
    memory_gib: float | None
    seconds: dict[str, float]
    device: Device
    workers: int

    def require_fit(self) -> None:
        """Refuses a training that does not fit into the memory of its device.

        Raises:
            ConfigError: it needs more.
        """
        if self.memory_gib is not None and self.memory_gib > self.device.memory_gib:
            raise ConfigError(
                f"a worker needs {self.memory_gib:.1f} GiB for batches of {self.tokens} tokens a sample, and "
                f"{self.device.name} has {self.device.memory_gib:.0f}",
                action="set precision: bf16, gradient_checkpointing: true or a smaller batch_size with more "
                "accumulation, or name another device with --device",
            )

    def as_table(self) -> Table:
        """The estimate for a terminal."""
        bounds = "upper bounds: full histories at every date" if self.lengths is None else "lengths of a finished run"
        table = Table(title=f"estimate ({bounds})")
        table.add_column("what")
        table.add_column("value", justify="right")
        samples = "by data" if self.samples is None else f"{self.samples:,}"
        table.add_row("train samples x checkpoints x tokens", f"{samples} x {self.checkpoints} x {self.tokens}")
        if self.lengths is not None:
            found = f"{self.lengths.samples:,}; {self.lengths.tokens:.0f}; {self.lengths.in_trees:.0f}"
            table.add_row("of the run: train samples; tokens of one; the same in trees", found)
        if self.event_tokens is not None:
            table.add_row("tokens of an event line with every field", f"{self.event_tokens:.1f}")
        table.add_row("model parameters", "set base.parameters" if self.parameters is None else f"{self.parameters:,}")
        if self.memory_gib is not None:
            table.add_row(f"memory of a training worker, of {self.device.memory_gib:.0f}", f"{self.memory_gib:.1f} GiB")
        for stage, seconds in self.seconds.items():
            alone = self.workers == 1 or stage == SCORING
            name = self.device.name if alone else f"{self.workers} x {self.device.name}"
            table.add_row(f"{stage} ({name})", _duration(seconds))
        rate = f"{self.device.flop_per_second / 1e12:.3g} TFLOP/s, {self.device.origin}"
        table.add_row(f"rate of {self.device.name}", rate)
        return table


def estimate_run(recipe: Recipe, device: Device | None = None, lengths: Lengths | None = None) -> Estimate:
    """Estimates a recipe; without a cap and without a simulation one million sequences are assumed.

    Args:
        recipe: a recipe.
        device: what a worker computes on; None: CPUs for a small model, and one usual GPU for a large one.
        lengths: those of a finished run; None: the bounds.
    """
    sequences = _train_samples(recipe)
    questions = len(recipe.labels.horizons) + sum(share for _, share in load_tasks(recipe.instructions).auxiliary)
    samples = None if sequences is None else math.ceil(sequences * questions)
    sampled, size = _sampled(recipe), model_size(recipe)
    tokens = most_tokens(recipe, sampled)
    large = size is not None and size.parameters >= LARGE_MODEL
    used = device or device_named(DEFAULT_GPU if large else CPU)
    count = samples or math.ceil(1_000_000 * questions)
    return Estimate(
        samples=samples,
        checkpoints=recipe.agent.checkpoints,
        tokens=tokens,
        lengths=lengths,
        event_tokens=None if sampled is None else sampled.event,
        parameters=None if size is None else size.parameters,
        memory_gib=None if size is None else _memory_gib(recipe, size, tokens),
        seconds={}
        if size is None
        else _seconds(recipe, size, used, lengths or Lengths(samples=count, tokens=tokens, in_trees=tokens)),
        device=used,
        workers=recipe.engine.training_workers,
    )


def _memory_gib(recipe: Recipe, size: ModelSize, tokens: int) -> float:
    """Of the training that needs most."""
    shards = recipe.engine.training_workers if recipe.engine.shard_base else 1
    needed = [training_memory_gib(size, part, tokens, shards=shards) for part in (recipe.agent, recipe.finetune)]
    continued = recipe.base.continued
    return max(needed if continued is None else [*needed, pretraining_memory_gib(size, continued)])


def _seconds(recipe: Recipe, size: ModelSize, device: Device, lengths: Lengths) -> dict[str, float]:
    """Seconds by stage: trainings on all workers, scores on one device."""
    agent, final, periods = recipe.agent, recipe.finetune, recipe.agent.checkpoints
    mix = math.floor(recipe.mix.fraction * lengths.samples)
    # Without a fold of persons, the ensemble is trained again, too; a joint model is trained once.
    trainings = final.distil.trainings + (recipe.card.joint is not None)
    if recipe.card.boosted is not None:
        trainings += final.distil.trainings * (recipe.card.boosted.folds - 1)
    tests = min(mix, recipe.mix.proxy_samples) * recipe.mix.proxy_trainings

    def flop(engine: str, trees: int, *, all_weights: bool, repeated: bool) -> float:
        """Of one sample; its user has so many trees instead of one."""
        passed = min(lengths.tokens, lengths.in_trees * trees) / lengths.tokens if engine == "trees" else 1.0
        return passed * training_flop(size, lengths.tokens, all_weights=all_weights, repeated=repeated)

    of_final = flop(final.engine, 1, all_weights=final.lora is None, repeated=final.gradient_checkpointing)
    of_agent = flop(agent.engine, periods, all_weights=False, repeated=agent.gradient_checkpointing)
    of_score = flop(recipe.influence.engine, 1, all_weights=False, repeated=recipe.influence.gradient_checkpointing)
    of_target = flop("samples", 1, all_weights=False, repeated=recipe.influence.gradient_checkpointing)
    targets = min(recipe.influence.max_targets, lengths.samples) if lengths.targets is None else lengths.targets
    workers = recipe.engine.training_workers
    passes = {
        **_continued_flop(recipe, size, lengths),
        "train agent": lengths.samples * agent.epochs * of_agent / workers,
        SCORING: periods * (lengths.samples * of_score + targets * of_target),
        "fine-tune": (mix * trainings + tests) * final.epochs * of_final / workers,
    }
    return {stage: START_SECONDS + found / device.flop_per_second for stage, found in passes.items()}


def _continued_flop(recipe: Recipe, size: ModelSize, lengths: Lengths) -> dict[str, float]:
    """FLOP of a base's further training, in one process: one history per client, about as long as a sample."""
    continued = recipe.base.continued
    if continued is None:
        return {}
    tokens = lengths.samples / len(recipe.observations.train.dates()) * lengths.tokens * continued.epochs
    piece = min(continued.context_length, lengths.tokens)
    pieces = min(tokens, continued.max_tokens or math.inf) / piece
    return {"continue base": pieces * pretraining_flop(size, piece, repeated=continued.gradient_checkpointing)}


def most_tokens(recipe: Recipe, sampled: SampledTokens | None) -> int:
    """Upper bound of the tokens of one sample.

    Prompts are folded to fit ``context_length``. The tokenizer of a tiny base has one token per word, so the words of
    the longest lines are a bound, too; for a pretrained one, ``sampled`` tells what ``max_events`` lines take.
    """
    context = min(recipe.agent.context_length, recipe.finetune.context_length)
    if sampled is not None:
        return min(context, sampled.of_prompt(recipe.instructions.max_events))
    return min(context, _most_words(recipe, load_tasks(recipe.instructions))) if recipe.base.tiny else context


def _sampled(recipe: Recipe) -> SampledTokens | None:
    """Sampled tokens of a pretrained base; None if the recipe has none or its tokenizer is not on this machine."""
    folder = base_folder(recipe)
    return sampled_tokens(recipe, folder) if folder is not None and (folder / "tokenizer.json").is_file() else None


def _most_words(recipe: Recipe, tasks: Tasks) -> int:
    """Words of ``max_events`` event lines with every field, of the lines after them, of question, answer and end."""
    settings, mapping = recipe.instructions, source_mapping(recipe)
    attributes = sum(len(file.columns) for file in mapping.files)  # a mapping may turn every column into one
    amount = 1 if settings.currency is None else 2
    of_fields = {"days_past_due": 1, "amount": amount, "attributes": attributes, "loan": 2}
    dated = 5 if settings.gap_unit == "day" else 4
    time = {"gap": 1, "date": dated, "both": 1 + dated}[settings.time] + (settings.season != "none")
    event = time + 1 + sum(of_fields[name] for name in settings.event_fields)
    profile = len(tasks.main.profile.split()) + attributes if settings.profile else 0
    asked = len(asked_line(1).split()) + settings.recall * event if recipe.observations.unit == "loan" else 0
    return settings.max_events * event + time + len(tasks.main.summary.split()) + profile + asked + 3


def _train_samples(recipe: Recipe) -> int | None:
    if recipe.split.max_train_samples is not None:
        return recipe.split.max_train_samples
    if recipe.source.simulation is not None:
        return recipe.source.simulation.users * len(recipe.observations.train.dates())
    return None


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"
