"""Behavior Card scores of every observed client: the champion's answers as calibrated probabilities and points."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from zigong.dataset.samples import PROMPT_KEYS, PromptSource, partition_shards
from zigong.errors import DataError
from zigong.evaluation.answering import answered
from zigong.evaluation.asked_model import AskedModel
from zigong.evaluation.calibration import Floats, calibrated
from zigong.evaluation.prompt_sources import ModelPrompts, SamplePrompts, SequencePrompts
from zigong.evaluation.published_sequences import PublishedSequences
from zigong.evaluation.reasons import REASONS, Explained, reasons_of_clients
from zigong.recipe import Recipe
from zigong.release.registry import Champion
from zigong.release.scaling import card_scores
from zigong.release.serving import fused_part, published_sequences, run_prompts
from zigong.runs.job import Job

KEYS = ["sample_id", "population", "user_id", "loan_id", "observation_at", "observation_date", "user_bucket"]
TOO_LONG = "prompt_does_not_fit_the_context"


@dataclass(frozen=True, kw_only=True)
class CardScores:
    """Scores before publication.

    Attributes:
        rows: of the contract behavior_card_scores.
        dropped: clients without a score, by reason.
    """

    rows: pa.Table
    dropped: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Book:
    """All clients observed at a date.

    Attributes:
        clients: columns KEYS, sorted by sample_id.
        prompts: the model's prompts about them.
        sequences: what they did.
    """

    clients: pa.Table
    prompts: ModelPrompts
    sequences: PublishedSequences


def book_of(job: Job, asked: AskedModel, day: date, *, tokenizer: str) -> Book:
    """The clients observed at ``day``, with a model's prompts about them.

    The run's own instruction samples are used if they are the model's prompts. Otherwise the model's prompts are
    rendered from user_sequences, and the sequence_id of a client is its sample_id.

    Args:
        tokenizer: digest of the tokenizer of the run's samples.

    Raises:
        ConfigError: the model is asked about another unit than the recipe observes.
        DataError: no client is observed at that date.
    """
    built = job.run.outcome("build_instructions")
    asked.require_unit(job.recipe.observations.unit)
    sequences = published_sequences(job)
    observed = (ds.field("population") == job.population) & (ds.field("observation_date") == day)
    if (
        built is not None
        and built.code == 0
        and (asked.prompts, asked.tokenizer_digest) == (run_prompts(job), tokenizer)
    ):
        template = asked.prompts.template.name
        clients = job.arrow("instruction_samples", KEYS, where=observed & (ds.field("template") == template))
        source = PromptSource(
            root=job.paths.root, samples_version=job.version("instruction_samples"), population=job.population
        )
        prompts: ModelPrompts = SamplePrompts(source=source, template=template)
    else:
        clients = job.arrow("user_sequences", ["sequence_id", *KEYS[1:]], where=observed).rename_columns(KEYS)
        prompts = SequencePrompts(
            prompts=asked.prompts,
            sequences=sequences,
        )
    if not len(clients):
        raise DataError(
            f"no client is observed at {day}", action="build labels, sequences and instructions for that date"
        )
    return Book(clients=clients.sort_by("sample_id"), prompts=prompts, sequences=sequences)


def scored_book(serving: Champion, book: Book, *, recipe: Recipe, stage: Path) -> CardScores:
    """Scores every client with the champion; its calibrated answers are scaled to points."""
    model = serving.model
    rows = answered(
        model.asked,
        serving.folders,
        book.prompts,
        partition_shards(book.clients),
        book.clients["sample_id"],
        recipe=recipe,
        stage=stage,
        label="scores",
        fused=fused_part(serving, book.sequences),
    )
    fits = rows["p_bad"].is_valid()
    too_long, clients = len(rows) - (pc.sum(fits).as_py() or 0), book.clients.filter(fits)
    p_bad = calibrated(model.calibration, rows["p_bad"].filter(fits).to_numpy())
    named = {
        "p_bad": pa.array(p_bad),
        "score": pa.array(card_scores(p_bad, model.card)),
        "model_id": pa.repeat(model.model_id, len(clients)),
        "reasons": _reasons(serving, book, clients, p_bad, recipe=recipe, stage=stage / "reasons"),
    }
    scored = clients.select(["population", "user_id", "loan_id", "observation_at", "observation_date"])
    for name, values in named.items():
        scored = scored.append_column(name, values)
    return CardScores(rows=scored, dropped={TOO_LONG: too_long} if too_long else {})


def _reasons(
    serving: Champion, book: Book, clients: pa.Table, p_bad: Floats, *, recipe: Recipe, stage: Path
) -> pa.Array:
    """The reasons of the riskiest clients, in the order of the clients; null for all others."""
    settings = recipe.reasons
    riskiest = np.zeros(len(clients), dtype=bool)
    riskiest[np.argsort(-p_bad, kind="stable")[: math.ceil(settings.share * len(clients))]] = True
    if not (settings.most and riskiest.any()):
        return pa.nulls(len(clients), REASONS)
    explained = Explained(
        asked=serving.model.asked,
        folders=serving.folders,
        calibration=serving.model.calibration,
        fused=fused_part(serving, book.sequences),
        sequences=book.sequences,
        most=settings.most,
    )
    wanted = clients.select([*PROMPT_KEYS, "user_bucket"]).filter(pa.array(riskiest))
    found = reasons_of_clients(explained, wanted, recipe=recipe, stage=stage, label="reasons")
    places = pc.index_in(clients["sample_id"].combine_chunks(), found["sample_id"].combine_chunks())
    return found["reasons"].combine_chunks().take(places)
