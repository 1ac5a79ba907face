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
import pyarrow.dataset as ds

from zigong.dataset.samples import PromptSource, SampleSource, in_shard, members_in, prompts_of_shard
from zigong.evaluation.asked_model import AskedModel
from zigong.evaluation.member_sequences import sequences_of_members
from zigong.evaluation.refolding import HistoryPolicy, refolded
from zigong.instructions.batches import in_batches
from zigong.instructions.build import COPIED, sample_batch
from zigong.instructions.encode import LineEncoder
from zigong.instructions.prompt_spec import PromptSpec
from zigong.lakehouse.paths import LakehousePaths
from zigong.lakehouse.tables import arrow_pinned

_READ = (*COPIED, "profile", "counts", "events", "event_loans", "loans", "loan")


class ModelPrompts(Protocol):
    """Prompts of one model, read by shard."""

    @property
    def fingerprint(self) -> str:
        """Identifies everything except the model that determines the prompts."""

    def of_shard(self, shard: Mapping[str, Any], encoder: LineEncoder) -> pa.Table:
        """Columns sample_id, user_id and input_ids (null if a prompt does not fit), sorted by sample_id."""


@dataclass(frozen=True, kw_only=True)
class SamplePrompts:
    """The prompts of instruction_samples, for a model with the same settings and tokenizer.

    Attributes:
        source: location of the samples; a dataset limits the prompts to its members, otherwise all of a shard are read.
        template: the main question of the recipe.
        splits: splits of the members.
    """

    source: PromptSource
    template: str
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
        return prompts_of_shard(self.source, shard, self.template, among=self._wanted)


@dataclass(frozen=True, kw_only=True)
class SequencePrompts:
    """Sequences rendered and encoded with the settings and the tokenizer of the model.

    Attributes:
        prompts: settings of the model.
        root: root of the lakehouse.
        version: version of user_sequences.
        population: whose sequences they are.
        published: history policy of those sequences.
        members: dataset whose members are rendered; None: every sequence of the shard, with its sequence_id as
            sample_id.
        splits: splits of the members.
    """

    prompts: PromptSpec
    root: str
    version: int
    population: str
    published: HistoryPolicy
    members: SampleSource | None = None
    splits: tuple[str, ...] = ()

    @property
    def fingerprint(self) -> str:
        """See :class:`ModelPrompts`."""
        members = "all" if self.members is None else f"{self.members.dataset_id}-{self.members.members_version}"
        return f"sequences-{self.version}-{members}-{'-'.join(self.splits)}"

    @cached_property
    def _wanted(self) -> pa.Table | None:
        return None if self.members is None else self.members.members(self.splits)

    def of_shard(self, shard: Mapping[str, Any], encoder: LineEncoder) -> pa.Table:
        """See :class:`ModelPrompts`."""
        here = (ds.field("population") == self.population) & in_shard(shard)
        among = None if self._wanted is None else members_in(self._wanted, shard)
        if among is not None:
            here &= ds.field("observation_date").isin(among["observation_date"].unique())
        paths = LakehousePaths(root=self.root)
        found = arrow_pinned(paths, "user_sequences", self.version, columns=_READ, where=here)
        chosen = found if among is None else sequences_of_members(found, among)
        keys = (found if among is None else among).select(["sequence_id" if among is None else "sample_id", "user_id"])
        wanted = HistoryPolicy(max_events=self.prompts.settings.max_events, timezone=self.prompts.timezone)
        ids = _input_ids(refolded(chosen, self.published, wanted), self.prompts, encoder)
        return keys.rename_columns(["sample_id", "user_id"]).append_column("input_ids", ids).sort_by("sample_id")


def prompts_of_members(
    asked: AskedModel,
    source: SampleSource,
    splits: Sequence[str],
    *,
    recipe_prompts: PromptSpec,
    recipe_tokenizer: str,
    sequences_version: int,
) -> ModelPrompts:
    """The prompts of a model about the members of a dataset: the published ones if they are prompts of this model.

    Args:
        asked: the model and its question.
        source: the dataset.
        splits: splits of the members.
        recipe_prompts: settings that rendered the samples of the dataset.
        recipe_tokenizer: digest of the tokenizer that encoded them.
        sequences_version: version of user_sequences.
    """
    if (asked.prompts, asked.tokenizer_digest) == (recipe_prompts, recipe_tokenizer):
        return SamplePrompts(source=source, template=asked.prompts.template.name, splits=tuple(splits))
    return SequencePrompts(
        prompts=asked.prompts,
        root=source.root,
        version=sequences_version,
        population=source.population,
        published=HistoryPolicy(max_events=recipe_prompts.settings.max_events, timezone=recipe_prompts.timezone),
        members=source,
        splits=tuple(splits),
    )


def _input_ids(sequences: pa.Table, prompts: PromptSpec, encoder: LineEncoder) -> pa.Array:
    """The token ids of the main prompt of each sequence, in the order of the sequences."""
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
    columns = {name: rows[name].combine_chunks() for name in _READ}
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
