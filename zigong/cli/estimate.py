"""The estimate of ``zigong plan``: samples x checkpoints x tokens, memory and time, before anything runs.

The counts are upper bounds from the recipe: every client is observed at every date, with a history of ``max_events``.
Event lines of a pretrained base are drawn and encoded by its own tokenizer.
The times are those of these bounds, so real runs are shorter where histories are. The rate on a CPU is that of the
demo's and the credit_record run on 2 cores (docs/results.md), the one on a GPU is assumed.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path

from rich.table import Table

from zigong.cli.sampled_tokens import SampledTokens, sampled_tokens
from zigong.errors import ConfigError
from zigong.instructions.render import asked_line
from zigong.instructions.tasks import Tasks, load_tasks
from zigong.recipe import Recipe, TinyBase
from zigong.recipe.source import source_mapping

VOCABULARY = 4096  # most different words of the event lines that the bound of a tiny base allows for
START_SECONDS = 10.0  # of a step: its workers start and load the model
PASS_FLOP = 6.0  # per weight and token: forward 2, backward 4 (Kaplan 2020, section 2.1)
FLOP_PER_CPU_SECOND = 2.0e11  # small matrices, 2 cores
FLOP_PER_GPU_SECOND = 2.0e14  # effective bf16, one current data-centre GPU
LARGE_MODEL = 100_000_000  # from this size on the plan assumes a GPU
BYTES_PER_WEIGHT = {"tiny": 4, "large": 2}


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """Size of a run before it starts.

    Attributes:
        samples: upper bound of train samples; None when it depends on the data.
        tokens: upper bound for one sample, question and answer included.
        event_tokens: mean tokens of a drawn event line by the tokenizer of a pretrained base; None: it is not here, or
            the base is tiny, whose tokens are words.
        parameters: upper bound; None if the base is neither here nor has its size in the recipe.
        memory_gib: weights, adapter, optimiser state and activations of one batch of the longest samples.
        seconds: by stage, on ``device``, for these bounds.
    """

    samples: int | None
    checkpoints: int
    tokens: int
    event_tokens: float | None
    parameters: int | None
    memory_gib: float
    seconds: dict[str, float]
    device: str

    def as_table(self) -> Table:
        """The estimate for a terminal."""
        table = Table(title="estimate (upper bounds: full histories at every date)")
        table.add_column("what")
        table.add_column("value", justify="right")
        samples = "by data" if self.samples is None else f"{self.samples:,}"
        table.add_row("train samples x checkpoints x tokens", f"{samples} x {self.checkpoints} x {self.tokens}")
        if self.event_tokens is not None:
            table.add_row("tokens of an event line with every field", f"{self.event_tokens:.1f}")
        table.add_row("model parameters", "set base.parameters" if self.parameters is None else f"{self.parameters:,}")
        table.add_row("memory of model and batch", f"{self.memory_gib:.1f} GiB")
        for stage, seconds in self.seconds.items():
            table.add_row(f"{stage} ({self.device})", _duration(seconds))
        return table


def estimate_run(recipe: Recipe) -> Estimate:
    """Estimates a recipe; without a cap and without a simulation one million sequences are assumed."""
    sequences = _train_samples(recipe)
    questions = len(recipe.labels.horizons) + sum(share for _, share in load_tasks(recipe.instructions).auxiliary)
    samples = None if sequences is None else math.ceil(sequences * questions)
    assumed = samples or math.ceil(1_000_000 * questions)
    sampled = _sampled(recipe)
    tokens, parameters = most_tokens(recipe, sampled), _parameters(recipe)
    large = (parameters or 0) >= LARGE_MODEL
    rate = FLOP_PER_GPU_SECOND if large else FLOP_PER_CPU_SECOND
    of_sample = PASS_FLOP * tokens * _multiplied_weights(recipe, parameters or 0) / rate
    mix = math.floor(recipe.mix.fraction * assumed)
    # Without a fold of persons, the ensemble is trained again, too; a joint model is trained once.
    trainings = recipe.finetune.distil.trainings + (recipe.card.joint is not None)
    if recipe.card.boosted is not None:
        trainings += recipe.finetune.distil.trainings * (recipe.card.boosted.folds - 1)
    passes = {
        "train agent": assumed * recipe.agent.epochs,
        "score influence": assumed * recipe.agent.checkpoints,
        "fine-tune": (mix * trainings + min(mix, recipe.mix.proxy_samples) * recipe.mix.proxy_trainings)
        * recipe.finetune.epochs,
    }
    return Estimate(
        samples=samples,
        checkpoints=recipe.agent.checkpoints,
        tokens=tokens,
        event_tokens=None if sampled is None else sampled.event,
        parameters=parameters,
        memory_gib=_memory_gib(recipe, parameters or 0, tokens, large=large),
        seconds={stage: START_SECONDS + of_sample * count for stage, count in passes.items()},
        device="one GPU" if large else "2 cores",
    )


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
    folder = _base_folder(recipe)
    return sampled_tokens(recipe, folder) if folder is not None and (folder / "tokenizer.json").is_file() else None


def _base_folder(recipe: Recipe) -> Path | None:
    """The folder of a pretrained base, or of its GGUF file; None if there is none on this machine."""
    if recipe.base.tiny is not None:
        return None
    from zigong.training.pretrained import gguf_file, located

    if recipe.base.gguf is not None:
        return gguf_file(recipe.base).parent
    try:
        return located(recipe.base)
    except ConfigError:
        return None


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


def tiny_parameters(tiny: TinyBase, words: int) -> int:
    """Weights of the tiny base: attention, gated feed-forward and norms of every layer, and two tables of its words."""
    width = tiny.hidden_size
    layer = 4 * width**2 + 3 * width * tiny.ffn_size + 2 * width
    return tiny.layers * layer + width + 2 * words * width


def _parameters(recipe: Recipe) -> int | None:
    if recipe.base.tiny is not None:
        return tiny_parameters(recipe.base.tiny, VOCABULARY)
    if recipe.base.parameters is not None:
        return recipe.base.parameters
    folder = _base_folder(recipe)
    if folder is None or recipe.base.gguf is not None:
        return None
    from zigong.training.pretrained import weight_files

    return sum(_weights_in(file) for file in weight_files(folder))


def _weights_in(file: Path) -> int:
    """Number of weights of a safetensors file, from its header: eight bytes of length, then JSON."""
    with file.open("rb") as content:
        header = json.loads(content.read(int.from_bytes(content.read(8), "little")))
    return sum(math.prod(item["shape"]) for name, item in header.items() if name != "__metadata__")


def _multiplied_weights(recipe: Recipe, parameters: int) -> int:
    """Weights that every token is multiplied with; the words of a tiny base are looked up instead."""
    return tiny_parameters(recipe.base.tiny, 0) if recipe.base.tiny is not None else parameters


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
