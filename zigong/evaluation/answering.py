"""Answers of a model to its prompts, on Ray; used for challengers, for champions and for scoring clients."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa

from zigong.console import progress
from zigong.errors import DataError
from zigong.evaluation.asked_model import AskedModel, ModelFolders
from zigong.evaluation.fusion import FusedPart
from zigong.evaluation.prompt_sources import ModelPrompts
from zigong.evaluation.worker import AnswerWorker
from zigong.fanout.shards import map_shards
from zigong.fanout.staged import Shard, staged_rows
from zigong.instructions.encode import LineEncoder
from zigong.instructions.render import word
from zigong.recipe import Horizon, Recipe


def answered(
    asked: AskedModel,
    folders: ModelFolders,
    prompts: ModelPrompts,
    shards: Sequence[Shard],
    keys: pa.ChunkedArray,
    *,
    recipe: Recipe,
    stage: Path,
    label: str,
    fused: FusedPart | None = None,
    generated: int = 0,
    further: Sequence[Horizon] = (),
) -> pa.Table:
    """The answers of a model, one row per key, sorted by sample_id.

    Args:
        asked: the model and its question.
        folders: the folders of its files.
        prompts: its prompts.
        shards: shards that together contain every key once.
        keys: the sample_ids to answer.
        recipe: limits of the engines and batch sizes, which change at most the last digits of an answer.
        stage: folder for the shards; a rerun reuses the complete ones.
        label: title of the progress line.
        fused: what a card adds to the model; its p_bad is then that of both together.
        generated: number of prompts that the model also answers in free text, in a column ``generated``: those with the
            smallest sample_ids, which are digests and so a random choice.
        further: horizons that the language model is also asked about, in a column ``horizons``.

    Raises:
        DataError: a file of the model differs from the registered one, or a key has no answer.
    """
    up_to = keys.sort()[min(generated, len(keys)) - 1].as_py() if generated and len(keys) else None
    parts = [asked.digest, prompts.fingerprint, *([fused.fusion.digest] if fused else []), *([up_to] if up_to else [])]
    parts += [horizon.name for horizon in further]
    with progress(label) as advance:
        manifests = map_shards(
            shards,
            AnswerWorker,
            {
                "asked": asked,
                "folders": folders,
                "prompts": prompts,
                "engine": recipe.evaluation.engine,
                "batch_tokens": recipe.evaluation.batch_tokens,
                "torch_threads": recipe.engine.torch_threads,
                "fused": fused,
                "generated_up_to": up_to,
                "further": tuple(further),
            },
            stage_folder=stage,
            fingerprint="-".join(parts),
            engine=recipe.engine,
            progress=advance,
        )
    return staged_rows(stage, manifests, keys)


def require_known_words(model_id: str, asked: AskedModel, encoder: LineEncoder, event_types: Sequence[str]) -> None:
    """Requires that the tokenizer of a model has words for the event types and the language of its prompts.

    Args:
        model_id: name of the model in errors.
        asked: the model and its question.
        encoder: encoder of the model.
        event_types: event types in its prompts.

    Raises:
        DataError: the tokenizer lacks one of these words; the message names it.
    """
    words = {kind: word(kind, asked.prompts.template) for kind in sorted(event_types)}
    unknown = [kind for kind, line in words.items() if not encoder.knows(line)]
    if unknown:
        raise DataError(
            f"model {model_id} cannot answer: its tokenizer has no words for the event types {', '.join(unknown)}; "
            f"it knows {', '.join(kind for kind in words if kind not in unknown) or 'none of the others'}",
            action="train and release a model on data with these events; until then score data without them "
            "(docs/operations.md, The champion)",
        )
    foreign = [line for line in (*asked.question, *asked.choices) if not encoder.knows(line)]
    if foreign:
        raise DataError(
            f"model {model_id} cannot answer in the language {asked.prompts.settings.language!r}: its tokenizer has no "
            f"words for {foreign[0]!r}",
            action="register the tokenizer that the model was trained with, or release a model again",
        )
