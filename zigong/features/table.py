"""Spark applies the definition of the features to user_sequences, in Arrow batches on its workers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from schemas.contracts import table_contract
from zigong.features.baseline import feature_rows
from zigong.features.settings import FEATURE_TABLE, FeatureSettings
from zigong.instructions.batches import InBatches, in_batches

COPIED = ("population", "sequence_id", "user_id", "loan_id", "observation_at", "observation_date", "user_bucket")
EVENT_FIELDS = ("event_type", "event_at", "known_at", "amount", "currency", "days_past_due")


def behavior_features(sequences: DataFrame, settings: FeatureSettings) -> DataFrame:
    """One row per sequence, in the columns of behavior_features.

    Args:
        sequences: rows of user_sequences.
        settings: those of the recipe.
    """
    contract = table_contract(FEATURE_TABLE)
    fields = (*EVENT_FIELDS, *(["attributes"] if settings.attributes else []))  # others are not read
    events = F.arrays_zip(*(F.col(f"events.{name}") for name in fields)).alias("events")
    needed = sequences.select(*COPIED, "profile", "counts", events, "event_loans", "loans", "loan")
    opened = _Builder(settings, list(contract.column_names))
    return needed.mapInArrow(in_batches(opened, sized_by="events"), contract.ddl)


@dataclass(frozen=True)
class _Builder:
    settings: FeatureSettings
    columns: list[str]

    def __call__(self) -> InBatches:
        """The function that maps a part of a batch on a worker."""
        return self._built

    def _built(self, batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
        sequences, asked = pa.Table.from_batches([batch]), self.settings
        rows = feature_rows(sequences, asked.outcome_events, asked.timezone, asked.currency, asked.attributes)
        for name in COPIED:
            rows = rows.append_column(name, sequences[name])
        yield from rows.select(self.columns).combine_chunks().to_batches()
