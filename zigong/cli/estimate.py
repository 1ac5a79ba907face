"""The estimate of ``zigong plan``: samples x checkpoints x tokens, memory and time, before anything runs.

The counts are upper bounds from the recipe. Rates on a CPU are those of the credit_record run on 2 cores, per
operation of the upper bound (docs/results.md); those of a GPU are assumed. The purpose is
the order of magnitude: minutes or days.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from rich.table import Table

from zigong.instructions.tasks import load_tasks
from zigong.recipe import Recipe, TinyBase

TOKENS_PER_EVENT = 2.5
QUESTION_TOKENS = 4
FLOP_PER_CPU_SECOND = 1.3e11  # small matrices, 2 cores
FLOP_PER_GPU_SECOND = 2.0e14  # effective bf16, one current data-centre GPU
LARGE_MODEL = 100_000_000  # from this size on the plan assumes a GPU
BYTES_PER_WEIGHT = {"tiny": 4, "large": 2}


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """Size of a run before it starts.

    Attributes:
        samples: upper bound of train samples; None when it depends on the data.
        tokens: of one sample, at most.
        memory_gib: weights, adapter, optimiser state and activations of one batch.
        seconds: by stage, on ``device``.
    """

    samples: int | None
    checkpoints: int
    tokens: int
    parameters: int
    memory_gib: float
    seconds: dict[str, float]
    device: str

    def as_table(self) -> Table:
        """The estimate for a terminal."""
        table = Table(title="estimate (upper bounds)")
        table.add_column("what")
        table.add_column("value", justify="right")
        samples = "by data" if self.samples is None else f"{self.samples:,}"
        table.add_row("train samples x checkpoints x tokens", f"{samples} x {self.checkpoints} x {self.tokens}")
        table.add_row("model parameters", f"{self.parameters:,}")
        table.add_row("memory of model and batch", f"{self.memory_gib:.1f} GiB")
        for stage, seconds in self.seconds.items():
            table.add_row(f"{stage} ({self.device})", _duration(seconds))
        return table


def estimate_run(recipe: Recipe) -> Estimate:
    """Estimates a recipe; without a cap and without a simulation one million sequences are assumed."""
    sequences = _train_samples(recipe)
    questions = 1 + sum(share for _, share in load_tasks(recipe.instructions).auxiliary)
    samples = None if sequences is None else math.ceil(sequences * questions)
    assumed = samples or math.ceil(1_000_000 * questions)
    events = recipe.instructions.max_events
    tokens = min(int(events * TOKENS_PER_EVENT) + QUESTION_TOKENS, recipe.finetune.context_length)
    parameters = recipe.base.parameters or (tiny_parameters(recipe.base.tiny) if recipe.base.tiny else 0)
    large = parameters >= LARGE_MODEL
    rate = FLOP_PER_GPU_SECOND if large else FLOP_PER_CPU_SECOND
    forward = 2.0 * parameters * tokens
    mix = math.floor(recipe.mix.fraction * assumed)
    seconds = {
        "train agent": 3 * forward * assumed * recipe.agent.epochs / rate,
        "score influence": 2 * forward * assumed * recipe.agent.checkpoints / rate,
        "fine-tune": 3 * forward * mix * recipe.finetune.epochs / rate,
    }
    return Estimate(
        samples=samples,
        checkpoints=recipe.agent.checkpoints,
        tokens=tokens,
        parameters=parameters,
        memory_gib=_memory_gib(recipe, parameters, tokens, large=large),
        seconds=seconds,
        device="one GPU" if large else "2 cores",
    )


def tiny_parameters(tiny: TinyBase) -> int:
    """Weights of the tiny base without its embeddings: attention and gated feed-forward of every layer."""
    return tiny.layers * (4 * tiny.hidden_size**2 + 3 * tiny.hidden_size * tiny.ffn_size)


def _train_samples(recipe: Recipe) -> int | None:
    if recipe.split.max_train_samples is not None:
        return recipe.split.max_train_samples
    if recipe.source.simulation is not None:
        return recipe.source.simulation.users * len(recipe.observations.train.dates())
    return None


def _memory_gib(recipe: Recipe, parameters: int, tokens: int, *, large: bool) -> float:
    weights = parameters * BYTES_PER_WEIGHT["large" if large else "tiny"]
    width = int(math.sqrt(parameters / 12 / 32)) if large else (recipe.base.tiny or TinyBase()).hidden_size
    layers = 32 if large else (recipe.base.tiny or TinyBase()).layers
    activations = recipe.finetune.batch_size * tokens * width * layers * 16 * 2
    return (weights + activations) / 1024**3


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"
