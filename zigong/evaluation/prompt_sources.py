"""Sources of the prompts of a model: published samples, or sequences rendered for this model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, Protocol
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from zigong.dataset.samples import PROMPT_KEYS, PromptSource, SampleSource, members_in, prompts_of_shard
from zigong.evaluation.asked_model import AskedModel
from zigong.evaluation.published_sequences import PublishedSequences
from zigong.instructions.batches import in_batches
from zigong.instructions.build import COPIED, sample_batch
from zigong.instructions.encode import LineEncoder
from zigong.instructions.prompt_spec import PromptSpec

READ = (*COPIED, "profile", "counts", "events", "event_loans", "loans", "loan")


class ModelPrompts(Protocol):
    """Prompts of one model, read by shard."""

    @property
    def fingerprint(self) -> str:
        """Identifies everything except the model that determines the prompts."""

    def of_shard(self, shard: Mapping[str, Any], encoder: LineEncoder) -> pa.Table:
        """PROMPT_KEYS and input_ids (null if a prompt does not fit), sorted by sample_id."""


@dataclass(frozen=True, kw_only=True)
class SamplePrompts:
    """The prompts of instruction_samples, for a model with the same settings and tokenizer.

    Attributes:
        source: location of the samples; a dataset limits the prompts to its members, otherwise all of a shard are read.
        template: the main question of the recipe.
        horizon: name of its first horizon.
        splits: splits of the members.
    """

    source: PromptSource
    template: str
    horizon: str
    splits: tuple[str, ...] = ()

    @property
    def fingerprint(self) -> str:
        """See :class:`ModelPrompts`."""
        dataset = self.source
        members = f"-{dataset.members_version}" if isinstance(dataset, SampleSource) else ""
        return f"samples-{dataset.samples_version}{members}-{'-'.join(self.splits)}"

    @cached_property
    def _wanted(self) -> pa.Table | None:
        return self.source.members(self.splits) if isinstance(self.source, SampleSource) else None

    def of_shard(self, shard: Mapping[str, Any], encoder: LineEncoder) -> pa.Table:  # noqa: ARG002
        """See :class:`ModelPrompts`."""
        return prompts_of_shard(self.source, shard, self.template, self.horizon, among=self._wanted)


@dataclass(frozen=True, kw_only=True)
class SequencePrompts:
    """Sequences rendered and encoded with the settings and the tokenizer of the model.

    Attributes:
        prompts: settings of the model.
        sequences: the published sequences.
        members: dataset whose members are rendered; None: every sequence of the shard, with its sequence_id as
            sample_id.
        splits: splits of the members.
    """

    prompts: PromptSpec
    sequences: PublishedSequences
    members: SampleSource | None = None
    splits: tuple[str, ...] = ()

    @property
    def fingerprint(self) -> str:
        """See :class:`ModelPrompts`."""
        members = "all" if self.members is None else f"{self.members.dataset_id}-{self.members.members_version}"
        return f"sequences-{self.sequences.version}-{members}-{'-'.join(self.splits)}"

    @cached_property
    def _wanted(self) -> pa.Table | None:
        return None if self.members is None else self.members.members(self.splits)

    def of_shard(self, shard: Mapping[str, Any], encoder: LineEncoder) -> pa.Table:
        """See :class:`ModelPrompts`."""
        among = None if self._wanted is None else members_in(self._wanted, shard)
        found = self.sequences.read(shard, READ, keys=among)
        named = found.rename_columns({"sequence_id": "sample_id"}) if among is None else among
        ids = input_ids_of(self.sequences.under(found, self.prompts), self.prompts, encoder)
        return named.select(PROMPT_KEYS).append_column("input_ids", ids).sort_by("sample_id")


def prompts_of_members(
    asked: AskedModel,
    source: SampleSource,
    splits: Sequence[str],
    *,
    recipe_prompts: PromptSpec,
    recipe_tokenizer: str,
    sequences: PublishedSequences,
) -> ModelPrompts:
    """The prompts of a model about the members of a dataset: the published ones if they are prompts of this model.

    Args:
        asked: the model and its question.
        source: the dataset.
        splits: splits of the members.
        recipe_prompts: settings that rendered the samples of the dataset.
        recipe_tokenizer: digest of the tokenizer that encoded them.
        sequences: the sequences that the members were rendered from.
    """
    if (asked.prompts, asked.tokenizer_digest) == (recipe_prompts, recipe_tokenizer):
        spec = asked.prompts
        return SamplePrompts(
            source=source, template=spec.template.name, horizon=spec.horizon.name, splits=tuple(splits)
        )
    return SequencePrompts(
        prompts=asked.prompts,
        sequences=sequences,
        members=source,
        splits=tuple(splits),
    )


def input_ids_of(sequences: pa.Table, prompts: PromptSpec, encoder: LineEncoder) -> pa.Array:
    """The token ids of the main prompt of each sequence, in the order of the sequences; null if it does not fit.

    Args:
        sequences: rows of user_sequences as the model reads them, with READ.
        prompts: settings of the model.
        encoder: its tokenizer.
    """
    zone = ZoneInfo(prompts.timezone)
    render = partial(sample_batch, plan=prompts, encoder=encoder, zone=zone)
    parts = in_batches(lambda: render)(iter([_batch(sequences, prompts)]))
    fitting = list(_fitting(parts))
    return pa.concat_arrays(fitting) if fitting else pa.array([], pa.list_(pa.int32()))


def _fitting(parts: Iterator[pa.RecordBatch]) -> Iterator[pa.Array]:
    for part in parts:
        fits = pc.less_equal(pc.list_value_length(part["input_ids"]), part["max_tokens"])
        yield pc.if_else(fits, part["input_ids"], pa.scalar(None, part["input_ids"].type))


def _batch(sequences: pa.Table, prompts: PromptSpec) -> pa.RecordBatch:
    """Sequences in the columns that ``sample_batch`` reads: none is marked as train; one list per event field."""
    rows = sequences.combine_chunks()
    columns = {name: rows[name].combine_chunks() for name in READ}
    events, event_loans = columns.pop("events"), columns.pop("event_loans").flatten()
    flat, sizes = events.flatten(), pc.list_value_length(events).to_numpy()
    bounds = pa.array([0, *sizes.cumsum().tolist()], pa.int32())
    several, loan = pc.greater(columns.pop("loans"), 1), columns.pop("loan")
    numbered = pc.if_else(several.take(pa.array(np.repeat(np.arange(len(rows)), sizes))), event_loans, None)
    values = {name: numbered if name == "loan" else flat.field(name) for name in prompts.event_fields}
    lists = {name: pa.ListArray.from_arrays(bounds, column) for name, column in values.items()}
    stated = {
        "folded": columns.pop("counts").field("folded"),
        "trains": pa.array([False] * len(rows)),
        "asked_loan": pc.if_else(several, loan, None),
    }
    return pa.RecordBatch.from_pydict({**columns, **stated, **lists})
