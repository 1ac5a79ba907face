"""Sends sequences to Spark workers: lists of the needed fields, in Arrow batches of a bounded number of events."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import Column
from pyspark.sql import functions as F

from zigong.instructions.prompts import intervals

EVENTS_OF_A_BATCH = 500_000
InBatches = Callable[[pa.RecordBatch], Iterator[pa.RecordBatch]]


def event_lists(fields: Sequence[str]) -> list[Column]:
    """One list column per event field; no other field is read or sent to a worker.

    ``loan`` is the number of an event's loan where the history names several, else null: text with one loan is silent.
    """
    unnumbered = F.array_repeat(F.lit(None).cast("int"), F.size("event_loans"))
    loans = F.when(F.col("loans") > 1, F.col("event_loans")).otherwise(unnumbered)
    return [(loans if name == "loan" else F.col(f"events.{name}")).alias(name) for name in fields]


def in_batches(
    opened: Callable[[], InBatches], *, sized_by: str = "event_at"
) -> Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    """Splits Spark's batches into parts of a bounded number of events and maps each with ``opened()``.

    Args:
        opened: called once on the worker; returns the function that maps a part.
        sized_by: a list column with an item per event.
    """

    def transform(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        render = opened()
        for batch in batches:
            events = pc.list_value_length(batch[sized_by]).fill_null(0).to_numpy(zero_copy_only=False)
            for part in intervals(events, EVENTS_OF_A_BATCH):
                yield from render(batch.slice(part.start, part.stop - part.start))

    return transform
