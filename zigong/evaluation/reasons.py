"""Reasons of scores: the groups of events and fields of the profile whose removal moves the card's log-odds most.

Each group is removed from the history and the card answers again, the language model and what is added to it alike; a
reason is therefore a measured effect, never the model's own words. Removal one at a time is occlusion (Zeiler and
Fergus 2014); groups that state the same share their effect, so that each of them may look weak.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch

from zigong.console import progress
from zigong.dataset.samples import members_in, partition_shards
from zigong.evaluation.asked_model import AskedModel, ModelFolders, OpenedModel
from zigong.evaluation.calibration import Calibration, calibrated, log_odds
from zigong.evaluation.fusion import Floats, FusedPart
from zigong.evaluation.prompt_sources import READ, input_ids_of
from zigong.evaluation.published_sequences import PublishedSequences
from zigong.evaluation.removal import removals
from zigong.fanout.shards import map_shards
from zigong.fanout.staged import staged_rows
from zigong.features.baseline import SEQUENCE_COLUMNS
from zigong.files.digests import json_digest
from zigong.recipe import Recipe

COLUMNS = tuple(dict.fromkeys((*READ, *SEQUENCE_COLUMNS)))
AT_ONCE = 200  # clients whose histories, complete and without each group, are in memory together
REASONS = pa.list_(pa.struct([("reason", pa.string()), ("effect", pa.float64())]))


@dataclass(frozen=True, kw_only=True)
class Explained:
    """What the reasons of a card depend on; small enough to send to workers.

    Attributes:
        asked: the language model and its question.
        folders: the folders of its files.
        calibration: of the card.
        fused: what the card adds to the model.
        sequences: what the clients did.
        most: largest number of reasons of a client.
    """

    asked: AskedModel
    folders: ModelFolders
    calibration: Calibration
    fused: FusedPart | None
    sequences: PublishedSequences
    most: int


class OpenedCard:
    """A card in memory: language model, trees or tower, and calibration."""

    def __init__(self, explained: Explained, *, engine: Literal["samples", "trees"], batch_tokens: int) -> None:
        self._explained = explained
        self._model = OpenedModel(explained.asked, explained.folders)
        self._fused = None if explained.fused is None else explained.fused.open()
        self._engine, self._batch_tokens = engine, batch_tokens

    def log_odds(self, sequences: pa.Table) -> Floats:
        """Calibrated log-odds of bad; NaN where the prompt does not fit; shape [sequences].

        Args:
            sequences: rows of user_sequences as the model reads them.
        """
        prompts = pa.table(
            {
                "sample_id": pa.array([f"{row:09d}" for row in range(len(sequences))]),
                "user_id": sequences["user_id"],
                "input_ids": input_ids_of(sequences, self._explained.asked.prompts, self._model.encoder),
            }
        )
        fused = self._fused
        states = fused is not None and fused.part.fusion.READS_STATES
        found = self._model.answers(prompts, engine=self._engine, batch_tokens=self._batch_tokens, states=states)
        answers = found.sort_by("sample_id")
        p_bad = answers["p_bad"].to_numpy()
        fits = ~np.isnan(p_bad)
        card = np.nan_to_num(p_bad, nan=0.5) if fused is None else fused.of_both(answers, sequences)
        return np.where(fits, log_odds(calibrated(self._explained.calibration, card)), np.nan)


def effects_of(card: OpenedCard, sequences: pa.Table) -> tuple[list[str], Floats]:
    """What each group adds to the log-odds of bad of each sequence.

    Args:
        card: the card.
        sequences: rows of user_sequences as its language model reads them.

    Returns:
        The groups, and log-odds of the complete history minus those without the group, NaN where the sequence has no
        such group or a prompt does not fit; shape [sequences, groups].
    """
    removed = list(removals(sequences))
    found = card.log_odds(pa.concat_tables([sequences, *(removal.sequences for removal in removed)]))
    complete, rest = found[: len(sequences)], found[len(sequences) :]
    effects = np.full((len(sequences), len(removed)), np.nan)
    start = 0
    for column, removal in enumerate(removed):
        end = start + len(removal.rows)
        effects[removal.rows, column] = complete[removal.rows] - rest[start:end]
        start = end
    return [removal.group for removal in removed], effects


def reasons_of_clients(explained: Explained, clients: pa.Table, *, recipe: Recipe, stage: Path, label: str) -> pa.Table:
    """Columns sample_id and reasons of clients, sorted by sample_id, computed on Ray.

    Args:
        explained: the card.
        clients: PROMPT_KEYS and user_bucket of the clients.
        recipe: limits of the engines and batch sizes.
        stage: folder for the shards; a rerun reuses the complete ones.
        label: title of the progress line.
    """
    keys = clients["sample_id"].combine_chunks()
    fused, names = explained.fused, json_digest(sorted(keys.to_pylist()))
    parts = [explained.asked.digest, *([fused.fusion.digest] if fused else []), str(explained.calibration)]
    with progress(label) as advance:
        manifests = map_shards(
            partition_shards(clients),
            ReasonWorker,
            {
                "explained": explained,
                "clients": clients,
                "engine": recipe.evaluation.engine,
                "batch_tokens": recipe.evaluation.batch_tokens,
                "torch_threads": recipe.engine.torch_threads,
            },
            stage_folder=stage,
            fingerprint=json_digest([*parts, explained.sequences.version, explained.most, names]),
            engine=recipe.engine,
            progress=advance,
        )
    return staged_rows(stage, manifests, clients["sample_id"])


class ReasonWorker:
    """A Ray actor that opens one card, then explains clients shard by shard.

    Args:
        explained: the card.
        clients: PROMPT_KEYS of the clients to explain, and the columns of a shard.
        engine: with ``trees`` the histories of a client share a forward pass.
        batch_tokens: padded tokens of one forward pass.
        torch_threads: threads of torch.
    """

    def __init__(
        self,
        *,
        explained: Explained,
        clients: pa.Table,
        engine: Literal["samples", "trees"],
        batch_tokens: int,
        torch_threads: int,
    ) -> None:
        torch.set_num_threads(torch_threads)
        self._explained, self._clients = explained, clients
        self._card = OpenedCard(explained, engine=engine, batch_tokens=batch_tokens)

    def __call__(self, shard: Mapping[str, Any]) -> pa.Table:
        """Columns sample_id and reasons, largest absolute effect first, of the clients of one shard."""
        here, sequences = members_in(self._clients, shard), self._explained.sequences
        read = sequences.under(sequences.read(shard, COLUMNS, keys=here), self._explained.asked.prompts)
        reasons: list[list[dict[str, object]]] = []
        for start in range(0, len(read), AT_ONCE):
            groups, effects = effects_of(self._card, read.slice(start, AT_ONCE))
            reasons += [_strongest(groups, row, self._explained.most) for row in effects]
        return pa.table({"sample_id": here["sample_id"], "reasons": pa.array(reasons, REASONS)})


def _strongest(groups: list[str], effects: Floats, most: int) -> list[dict[str, object]]:
    """The reasons of one client: the largest effects that are not 0."""
    strength = np.abs(np.nan_to_num(effects))
    order = [int(place) for place in np.argsort(-strength, kind="stable")[:most] if strength[place] > 0]
    return [{"reason": groups[place], "effect": float(effects[place])} for place in order]


def reason_counts(reasons: pa.ChunkedArray) -> list[dict[str, object]]:
    """How many of the explained clients have each reason, and its mean effect; the most frequent first.

    Args:
        reasons: the reasons of each client; null where a client is not explained.
    """
    explained = reasons.drop_null()
    flat = pc.list_flatten(explained).combine_chunks()
    if not len(flat):
        return []
    counted = (
        pa.table({"reason": flat.field("reason"), "effect": flat.field("effect")})
        .group_by("reason")
        .aggregate([("effect", "count"), ("effect", "mean")])
        .sort_by([("effect_count", "descending"), ("reason", "ascending")])
    )
    return [
        {"reason": row["reason"], "clients": row["effect_count"], "of": len(explained), "effect": row["effect_mean"]}
        for row in counted.to_pylist()
    ]
