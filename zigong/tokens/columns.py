"""Columns of samples that are read value by value, so that the token ids of many samples need no memory.

Of a memory-mapped file only the pages that are read are in memory, as the system's page cache, which it takes back
when memory is short. Processes on one machine share them.
"""

from __future__ import annotations

from abc import abstractmethod
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, SupportsIndex, TypeVar, overload

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

if TYPE_CHECKING:
    from zigong.tokens.samples import Indices, TokenIds

T = TypeVar("T")
BLOCK = 1024  # values that are read together where all are read in order


class LazyColumn(Sequence[T]):
    """A column whose values are computed when they are read."""

    @abstractmethod
    def take(self, rows: Indices) -> Self:
        """The values at ``rows``, in that order, not read yet."""

    @abstractmethod
    def value(self, row: int) -> T:
        """The value at ``row``, from 0."""

    @overload
    def __getitem__(self, index: SupportsIndex) -> T: ...

    @overload
    def __getitem__(self, index: slice) -> Self: ...

    def __getitem__(self, index: SupportsIndex | slice) -> T | Self:
        if isinstance(index, slice):
            return self.take(np.arange(len(self), dtype=np.int64)[index])
        row = int(index)
        if not -len(self) <= row < len(self):
            raise IndexError(f"row {row} of {len(self)}")
        return self.value(row % len(self))


Column = tuple[T, ...] | LazyColumn[T]


class ArrowColumn(LazyColumn[T]):
    """A column of an Arrow table: strings, dates, moments as aware UTC, or token ids, where a null counts as none."""

    def __init__(self, values: pa.ChunkedArray, rows: Indices | None = None) -> None:
        """Reads nothing.

        Args:
            values: the column.
            rows: [N] places of the values in it; None: all, in their order.
        """
        self._values, self._rows = values, rows
        self._chunks = values.chunks
        self._ends = np.cumsum([len(chunk) for chunk in self._chunks]).tolist()
        self._lists = pa.types.is_list(values.type) or pa.types.is_large_list(values.type)

    def __len__(self) -> int:
        return len(self._values) if self._rows is None else len(self._rows)

    def take(self, rows: Indices) -> Self:
        """See the base; several columns that are taken by one array share it."""
        return type(self)(self._values, rows if self._rows is None else self._rows[rows])

    def value(self, row: int) -> T:
        """See the base."""
        place = row if self._rows is None else int(self._rows[row])
        number = bisect_right(self._ends, place)
        start = self._ends[number - 1] if number else 0
        scalar = self._chunks[number][place - start]
        found: T = _token_ids(scalar) if self._lists else _plain(scalar)
        return found

    def __iter__(self) -> Iterator[T]:
        if self._rows is not None:
            yield from super().__iter__()
            return
        for chunk in self._chunks:
            for start in range(0, len(chunk), BLOCK):
                block = chunk.slice(start, BLOCK)
                yield from _token_lists(block) if self._lists else map(_plain, block)

    def ranks(self) -> Indices:
        """The place of each value in ascending order; equal ones keep their order: [N]."""
        order = pc.sort_indices(self._values).to_numpy()
        ranks = np.empty(len(order), dtype=np.int64)
        ranks[order] = np.arange(len(order))
        return ranks if self._rows is None else ranks[self._rows]


class DerivedColumn(LazyColumn[T]):
    """A column that is computed from the values of others at the same row."""

    def __init__(self, function: Callable[..., T], *sources: Sequence[Any] | npt.NDArray[Any]) -> None:
        """Computes nothing.

        Args:
            function: the values of the sources at one row -> the value there.
            sources: columns of equal length.
        """
        self._function, self._sources = function, sources

    def __len__(self) -> int:
        return len(self._sources[0])

    def take(self, rows: Indices) -> Self:
        """See the base."""
        return type(self)(self._function, *(taken(source, rows) for source in self._sources))

    def value(self, row: int) -> T:
        """See the base."""
        return self._function(*(source[row] for source in self._sources))

    def __iter__(self) -> Iterator[T]:
        return map(self._function, *self._sources)


def taken(column: Any, rows: Indices) -> Any:
    """The values of a column at ``rows``, in that order, as a column of the same kind."""
    if isinstance(column, np.ndarray):
        return column[rows]
    return column.take(rows) if isinstance(column, LazyColumn) else tuple(column[row] for row in rows)


def ranks(values: Sequence[str]) -> Indices:
    """The place of each value in ascending order: [N]."""
    column = values if isinstance(values, ArrowColumn) else ArrowColumn[str](pa.chunked_array([pa.array(values)]))
    return column.ranks()


def mapped_table(file: Path) -> pa.Table:
    """The table of an uncompressed Arrow IPC file, mapped into memory: its pages are read when they are used."""
    return pa.ipc.open_file(pa.memory_map(str(file))).read_all()


def token_lists(column: pa.ChunkedArray) -> tuple[TokenIds, ...]:
    """One int32 array per row of an Arrow column of lists of integers; a null counts as empty."""
    return tuple(ids for chunk in column.chunks for ids in _token_lists(chunk))


def aware(moment: datetime) -> datetime:
    """A moment in UTC; one without a time zone is in UTC already."""
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def _token_lists(chunk: pa.Array) -> list[Any]:
    filled = chunk.cast(pa.large_list(pa.int32()))
    values = filled.values.to_numpy(zero_copy_only=False)
    edges = filled.offsets.to_numpy()
    empty = filled.is_null().to_numpy(zero_copy_only=False)
    return [values[a:a] if no else values[a:b] for a, b, no in zip(edges[:-1], edges[1:], empty, strict=True)]


def _token_ids(scalar: pa.Scalar) -> Any:
    return np.asarray([] if scalar.values is None else scalar.values.to_numpy(), dtype=np.int32)


def _plain(scalar: pa.Scalar) -> Any:
    value = scalar.as_py()
    return aware(value) if isinstance(value, datetime) else value
