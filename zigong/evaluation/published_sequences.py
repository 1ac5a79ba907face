"""The published sequences of keys in a shard, under the history policy of a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.dataset as ds

from zigong.dataset.samples import in_shard
from zigong.evaluation.member_rows import rows_of_members
from zigong.evaluation.refolding import HistoryPolicy, refolded
from zigong.instructions.prompt_spec import PromptSpec
from zigong.lakehouse.paths import LakehousePaths
from zigong.lakehouse.tables import arrow_pinned

_NEEDED = (
    "sequence_id",
    "user_id",
    "loan_id",
    "observation_date",
    "observation_at",
    "counts",
    "events",
    "event_loans",
)


@dataclass(frozen=True, kw_only=True)
class PublishedSequences:
    """A version of user_sequences; small enough to send to workers, which read it themselves.

    Attributes:
        root: root of the lakehouse.
        version: version of user_sequences.
        population: whose sequences they are.
        policy: history policy that they were built with.
    """

    root: str
    version: int
    population: str
    policy: HistoryPolicy

    def read(self, shard: Mapping[str, Any], columns: Sequence[str], *, keys: pa.Table | None = None) -> pa.Table:
        """The sequences of a shard as published.

        Args:
            shard: the shard.
            columns: columns to read, those that :meth:`under` needs besides.
            keys: user_id, loan_id, observation_date and sample_id of the sequences to return, in the order of the keys;
                None: all of the shard.

        Raises:
            DataError: a key has no sequence.
        """
        here = (ds.field("population") == self.population) & in_shard(shard)
        if keys is not None:
            here &= ds.field("observation_date").isin(keys["observation_date"].unique())
        read = tuple(dict.fromkeys((*_NEEDED, *columns)))
        found = arrow_pinned(LakehousePaths(root=self.root), "user_sequences", self.version, columns=read, where=here)
        return found if keys is None else rows_of_members(found, keys, table="user_sequences")

    def under(self, sequences: pa.Table, prompts: PromptSpec) -> pa.Table:
        """Sequences as a model reads them, whose prompts may keep fewer events.

        Raises:
            DataError: events that the model reads were folded.
        """
        wanted = HistoryPolicy(max_events=prompts.settings.max_events, timezone=prompts.timezone)
        return refolded(sequences, self.policy, wanted)
