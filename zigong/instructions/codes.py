"""Codes: integers that are equal exactly where values are equal, never by a hash alone."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

Integers = npt.NDArray[np.int64]


def text_codes(texts: pa.Array) -> Integers:
    """Equal codes for equal texts; null is 0."""
    indices: Integers = texts.dictionary_encode().indices.cast(pa.int64()).fill_null(-1).to_numpy()
    return indices + 1


def _codes(numbers: Integers) -> Integers:
    """Equal codes for equal numbers, counted from 0 in order of appearance."""
    codes: Integers = pa.array(numbers).dictionary_encode().indices.to_numpy().astype(np.int64)
    return codes


def combined(left: Integers, right: Integers) -> Integers:
    """Equal codes for equal pairs, counted from 0 in order of appearance; ``left`` holds codes already."""
    dense = _codes(right)
    return _codes(left * (int(dense.max(initial=0)) + 1) + dense)


def first_positions(codes: Integers) -> Integers:
    """The first position of each code."""
    first = np.zeros(int(codes.max(initial=-1)) + 1, dtype=np.int64)
    first[codes[::-1]] = np.arange(len(codes))[::-1]
    return first


def valid(array: pa.Array) -> npt.NDArray[np.bool_]:
    """Whether each value is not null."""
    known: npt.NDArray[np.bool_] = pc.is_valid(array).to_numpy(zero_copy_only=False)
    return known
