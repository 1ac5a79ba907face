"""CALM's splits: a stratified subsample, then two random samples of row numbers with one seed."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from sklearn.model_selection import train_test_split

from zigong.errors import DataError

SPLIT_SEED, SUBSAMPLE_SEED = 10086, 100
TRAIN_SHARE, VALIDATION_SHARE = 0.7, 0.1
LARGEST_RATIO = 2  # rows of the more frequent label per row of the other one, after balancing


@dataclass(frozen=True, kw_only=True)
class Split:
    """Row numbers of the three parts, each in the benchmark's order."""

    train: list[int]
    validation: list[int]
    test: list[int]


def split_rows(truths: Sequence[str], *, subsample: float | None) -> Split:
    """Divides the rows of a raw file.

    The training rows are in the order in which they were drawn, as are the validation rows; the test rows keep the
    order of the (subsampled) file.

    Args:
        truths: answer of each row of the raw file.
        subsample: share that is drawn first, stratified by the answers; None: all rows.

    Raises:
        DataError: there are too few rows for three parts.
    """
    rows = list(range(len(truths))) if subsample is None else _stratified(truths, subsample)
    if int(len(rows) * VALIDATION_SHARE) < 1:
        raise _too_few(truths)
    generator = random.Random(SPLIT_SEED)  # noqa: S311 - the benchmark's own generator
    train = generator.sample(rows, int(len(rows) * TRAIN_SHARE))
    rest = _without(rows, train)
    validation = generator.sample(rest, int(len(rows) * VALIDATION_SHARE))
    return Split(train=train, validation=validation, test=_without(rest, validation))


def balanced(rows: Sequence[int], truths: Sequence[str]) -> list[int]:
    """The rows, with rows of the rarer label repeated at random until there is one for every two of the other.

    Args:
        rows: rows of the training split.
        truths: answer of each row of the raw file.
    """
    counts = Counter(truths[row] for row in rows).most_common()
    rarer = [row for row in rows if truths[row] == counts[-1][0]]
    missing = counts[0][1] // LARGEST_RATIO - len(rarer)
    if len(counts) < 2 or missing <= 0:
        return list(rows)
    generator = np.random.default_rng(SPLIT_SEED)
    return [*rows, *(rarer[index] for index in generator.integers(len(rarer), size=missing))]


def _stratified(truths: Sequence[str], share: float) -> list[int]:
    try:
        drawn, _ = train_test_split(
            np.arange(len(truths)), train_size=share, stratify=truths, random_state=SUBSAMPLE_SEED
        )
    except ValueError as error:
        raise _too_few(truths) from error
    return sorted(drawn.tolist())


def _too_few(truths: Sequence[str]) -> DataError:
    counts = ", ".join(f"{count} {truth}" for truth, count in sorted(Counter(truths).items()))
    return DataError(
        f"expected enough rows for a subsample and three parts; found {counts or 'none'}",
        action="give --data the complete raw files",
    )


def _without(rows: Sequence[int], removed: Sequence[int]) -> list[int]:
    gone = set(removed)
    return [row for row in rows if row not in gone]
