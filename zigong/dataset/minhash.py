"""MinHash sketches of token ids: near-equal texts share a bucket, and only texts of one bucket are compared.

Broder (1997) for the signature, Leskovec, Rajaraman and Ullman, Mining of Massive Datasets, 3.4 for the bands.
Sketches are a deterministic function of the ids: no random state, no dependence on order or partitions.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

SIGNATURE = 128
WANTED_RECALL = 0.99
_PADDING, _GOLDEN = np.uint64(0xFFFFFFFFFFFFFFFF), np.uint64(0x9E3779B97F4A7C15)

Hashes = NDArray[np.uint64]


@dataclass(frozen=True, kw_only=True)
class Bands:
    """Division of a signature into bands: two texts share a bucket if all hashes of one band are equal."""

    rows: int
    bands: int

    @classmethod
    def of(cls, threshold: float) -> Bands:
        """The longest bands with which texts of similarity ``threshold`` share a bucket with probability 0.99."""
        cuts = [cls(rows=rows, bands=SIGNATURE // rows) for rows in range(1, SIGNATURE + 1)]
        return max((cut for cut in cuts if cut.recall(threshold) >= WANTED_RECALL), key=lambda cut: cut.rows)

    def recall(self, similarity: float) -> float:
        """Probability that two texts of a given similarity share a bucket in at least one band."""
        return float(1 - (1 - similarity**self.rows) ** self.bands)


@dataclass(frozen=True, kw_only=True)
class Sketcher:
    """Adds shingles and buckets to Arrow batches.

    Attributes:
        shingle_tokens: consecutive tokens of a shingle.
        cut: bands of the signature.
    """

    shingle_tokens: int
    cut: Bands

    def __call__(self, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Replaces ``input_ids`` by ``shingles`` and ``buckets``, both list<int64>."""
        for batch in batches:
            if batch.num_rows:
                ids = batch.column("input_ids")
                lengths = pc.list_value_length(ids).to_numpy(zero_copy_only=False)
                shingles, counts = numbered_shingles(ids.flatten().to_numpy(), lengths, self.shingle_tokens)
                buckets = bucket_hashes(shingles, counts, self.cut)
                added = [_lists(shingles, counts), _lists(buckets.ravel(), np.full(len(buckets), self.cut.bands))]
                kept = batch.drop_columns(["input_ids"])
                names = [*kept.schema.names, "shingles", "buckets"]
                yield pa.RecordBatch.from_arrays([*kept.columns, *added], names=names)


def numbered_shingles(
    ids: NDArray[np.integer], lengths: NDArray[np.integer], shingle_tokens: int
) -> tuple[Hashes, NDArray[np.int64]]:
    """Hashes of the shingles of many texts; repetitions of a shingle have distinct hashes.

    The n-th occurrence of a shingle in a text has its own hash, so the similarity of two texts is the Jaccard
    similarity of multisets. As sets, a text of three months could equal one of thirty: the vocabulary is small.

    Args:
        ids: token ids of all texts, concatenated.
        lengths: tokens per text; a text shorter than a shingle is padded to one.

    Returns:
        The hashes, text by text, and the number of hashes of each text; shapes [sum of counts] and [texts].
    """
    counts = np.maximum(lengths.astype(np.int64) - shingle_tokens + 1, 1)
    text = np.repeat(np.arange(len(lengths)), counts)
    position = np.arange(len(text)) - np.repeat(np.cumsum(counts) - counts, counts)
    start = np.cumsum(lengths) - lengths
    padded = np.append(ids.astype(np.uint64), _PADDING)
    hashes = np.zeros(len(text), dtype=np.uint64)
    for step in range(shingle_tokens):
        inside = position + step < lengths[text]
        hashes = _mixed(hashes + _GOLDEN ^ padded[np.where(inside, start[text] + position + step, len(ids))])
    order = np.lexsort((hashes, text))
    hashes, index = hashes[order], np.arange(len(text))
    repeats = np.append(False, (hashes[1:] == hashes[:-1]) & (text[1:] == text[:-1]))
    occurrence = index - np.maximum.accumulate(np.where(repeats, 0, index))
    return _mixed(hashes + occurrence.astype(np.uint64) * _GOLDEN), counts


def bucket_hashes(shingles: Hashes, counts: NDArray[np.int64], cut: Bands) -> Hashes:
    """The bucket of every text in every band; shape [texts, bands]."""
    starts = np.cumsum(counts) - counts
    # Multiplication by an odd number permutes the 64-bit numbers, and the shingle hashes are already mixed.
    numbers = np.arange(1, 2 * SIGNATURE + 1, dtype=np.uint64)
    factors, offsets = np.split(_mixed(numbers * _GOLDEN), 2)
    buckets = np.zeros((len(counts), cut.bands), dtype=np.uint64)
    for band in range(cut.bands):
        for row in range(band * cut.rows, (band + 1) * cut.rows):
            smallest = np.minimum.reduceat(shingles * (factors[row] | np.uint64(1)) + offsets[row], starts)
            buckets[:, band] = _mixed(buckets[:, band] + _GOLDEN ^ smallest)
    return buckets


def _mixed(numbers: Hashes) -> Hashes:
    """The finaliser of SplitMix64 (Steele, Lea, Flood 2014): every output bit depends on every input bit."""
    numbers = (numbers ^ (numbers >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    numbers = (numbers ^ (numbers >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return numbers ^ (numbers >> np.uint64(31))


def _lists(values: Hashes, counts: NDArray[np.int64]) -> pa.ListArray:
    offsets = np.append(0, np.cumsum(counts)).astype(np.int32)
    return pa.ListArray.from_arrays(offsets, pa.array(values.view(np.int64)))
