"""Instruction samples as columns, and batches of them whose logits are computed at label positions only."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch import Tensor

from zigong.errors import ConfigError, DataError
from zigong.tokens.columns import (
    ArrowColumn,
    Column,
    DerivedColumn,
    aware,
    mapped_table,
    ranks,
    taken,
    token_lists,
)

TokenIds = npt.NDArray[np.int32]
Indices = npt.NDArray[np.int64]
LENGTH_STEP = 16  # tokens
NO_LABEL = -1


@dataclass(frozen=True, kw_only=True, eq=False)
class Samples:
    """Samples as columns of equal length, the input of training and scoring.

    Attributes:
        sample_id: unique keys.
        user_id: pseudonyms.
        observation_date: date of T in the business time zone.
        matured_at: moment when the label matured, aware UTC.
        label: [N], 1 = bad, 0 = good, ``NO_LABEL`` where only a teacher answers.
        input_ids: token ids of each prompt, at least one.
        completion_ids: token ids of each answer, at least one.
    """

    sample_id: Column[str]
    user_id: Column[str]
    observation_date: Column[date]
    matured_at: Column[datetime]
    label: Indices
    input_ids: Column[TokenIds]
    completion_ids: Column[TokenIds]

    def __post_init__(self) -> None:
        sizes = {name: len(getattr(self, name)) for name in self.__dataclass_fields__}
        if len(set(sizes.values())) > 1:
            raise DataError(f"sample columns differ in length: {sizes}", action="build them from one table")

    def __len__(self) -> int:
        return len(self.sample_id)

    @classmethod
    def from_arrow(cls, table: pa.Table) -> Self:
        """Reads the joined columns of instruction_samples and dataset_members.

        Raises:
            DataError: a column is missing, a key is duplicated, or a prompt or completion is empty.
        """
        _require_sound(table, cls.__dataclass_fields__)
        return cls(
            sample_id=tuple(table["sample_id"].to_pylist()),
            user_id=tuple(table["user_id"].to_pylist()),
            observation_date=tuple(table["observation_date"].to_pylist()),
            matured_at=tuple(aware(moment) for moment in table["matured_at"].to_pylist()),
            label=_labels(table),
            input_ids=token_lists(table["input_ids"]),
            completion_ids=token_lists(table["completion_ids"]),
        )

    @classmethod
    def mapped(cls, file: Path) -> Self:
        """The samples of an Arrow file with the columns that :meth:`from_arrow` reads, of which only labels are held.

        Raises:
            DataError: as for :meth:`from_arrow`.
        """
        table = mapped_table(file)
        _require_sound(table, cls.__dataclass_fields__)
        lazy: dict[str, Any] = {name: ArrowColumn(table[name]) for name in cls.__dataclass_fields__ if name != "label"}
        return cls(label=_labels(table), **lazy)

    def take(self, indices: npt.ArrayLike) -> Self:
        """The samples at ``indices``, in that order."""
        rows = np.asarray(indices, dtype=np.int64)
        return type(self)(**{name: taken(getattr(self, name), rows) for name in self.__dataclass_fields__})

    def by_date(self) -> Self:
        """The samples by date and key, whatever their order was."""
        days = np.fromiter((day.toordinal() for day in self.observation_date), dtype=np.int32, count=len(self))
        return self.take(np.lexsort((ranks(self.sample_id), days)))


def _labels(table: pa.Table) -> Indices:
    return np.asarray(table["label"].fill_null(NO_LABEL).to_numpy(), dtype=np.int64)


def _require_sound(table: pa.Table, columns: Iterable[str]) -> None:
    """Requires the columns of samples, unique keys, and tokens in every prompt and answer."""
    missing = sorted(set(columns) - set(table.column_names))
    if missing:
        raise DataError(f"samples lack the columns {missing}", action="join instruction_samples to dataset_members")
    keys = ArrowColumn[str](table["sample_id"])
    twice = [key for key, other in pairwise(keys.take(np.argsort(keys.ranks()))) if key == other]
    if twice:
        raise DataError(f"sample_id is not unique, for example {twice[:3]}", action="deduplicate dataset_members")
    for name, column in (("prompt", "input_ids"), ("completion", "completion_ids")):
        empty = np.flatnonzero(pc.fill_null(pc.list_value_length(table[column]), 0).to_numpy() == 0)
        if len(empty):
            raise DataError(
                f"{len(empty)} samples have no {name} tokens, first {keys[int(empty[0])]}",
                action="quarantine them: without tokens they can neither train nor be scored",
            )


@dataclass(frozen=True, kw_only=True, eq=False)
class LabelledBatch:
    """Right-padded token ids of N samples, and the M positions whose next token is in the loss.

    Attributes:
        input_ids: [N, S] int64; S is at least the length of the longest row.
        attention_mask: [N, S] int64, 1 on tokens. Pads are on the right, so causal attention never reaches them.
        label_rows: [M] row of each label.
        label_positions: [M] position whose hidden state predicts the label: the one before it.
        label_targets: [M] token ids of the labels.
    """

    input_ids: Tensor
    attention_mask: Tensor
    label_rows: Tensor
    label_positions: Tensor
    label_targets: Tensor

    def to(self, device: torch.device) -> Self:
        """The batch on another device."""
        return type(self)(**{name: getattr(self, name).to(device) for name in self.__dataclass_fields__})

    def __len__(self) -> int:
        return int(self.input_ids.shape[0])


def labelled_batch(
    prompts: Sequence[TokenIds], completions: Sequence[TokenIds], *, length_step: int = 1
) -> LabelledBatch:
    """Concatenates each prompt with its completion, whose tokens are the labels, and pads on the right.

    The width is the longest row's length, rounded up to a multiple of ``length_step``.
    """
    prompt_sizes = np.array([len(ids) for ids in prompts])
    label_sizes = np.array([len(ids) for ids in completions])
    sizes = prompt_sizes + label_sizes
    width = -(-int(sizes.max()) // length_step) * length_step
    input_ids = np.zeros((len(sizes), width), dtype=np.int64)
    for row, (prompt, completion) in enumerate(zip(prompts, completions, strict=True)):
        input_ids[row, : len(prompt)] = prompt
        input_ids[row, len(prompt) : len(prompt) + len(completion)] = completion
    rows = np.repeat(np.arange(len(sizes)), label_sizes)
    starts = np.repeat(prompt_sizes - 1 - np.cumsum(label_sizes) + label_sizes, label_sizes)
    positions = starts + np.arange(int(label_sizes.sum()))
    return LabelledBatch(
        input_ids=torch.from_numpy(input_ids),
        attention_mask=torch.from_numpy((np.arange(input_ids.shape[1]) < sizes[:, None]).astype(np.int64)),
        label_rows=torch.from_numpy(rows),
        label_positions=torch.from_numpy(positions),
        label_targets=torch.from_numpy(input_ids[rows, positions + 1]),
    )


def token_budget_batches(lengths: npt.ArrayLike, budget: int) -> list[Indices]:
    """Divides samples into batches of at most ``budget`` padded tokens, sorted by length (ties: by index).

    A sample longer than the budget is a separate batch. The division depends only on the lengths.
    """
    sizes = np.asarray(lengths, dtype=np.int64)
    batches: list[Indices] = []
    start = 0
    order = np.argsort(sizes, kind="stable")
    for end in range(1, len(order) + 1):
        if end == len(order) or int(sizes[order[end]]) * (end + 1 - start) > budget:
            batches.append(order[start:end])
            start = end
    return batches


def length_class_batches(lengths: npt.ArrayLike, budget: int, *, step: int = LENGTH_STEP) -> list[Indices]:
    """Divides samples into batches of one length class each, of at most ``budget`` tokens when padded to the class.

    With ``batch_of(..., length_step=step)`` the padded width of a sample depends only on the sample itself.
    """
    classes = -(-np.asarray(lengths, dtype=np.int64) // step)
    batches: list[Indices] = []
    for size in np.unique(classes):
        members: Indices = np.flatnonzero(classes == size)
        rows = max(1, budget // int(size * step))
        batches += [members[start : start + rows] for start in range(0, len(members), rows)]
    return batches


def answer_ids(completion: TokenIds, *, ends: Sequence[int], count_eos: bool) -> TokenIds:
    """The completion tokens that bear loss: with exactly one end token, the first one, if it counts, else with none."""
    bare = completion[:-1] if int(completion[-1]) in ends else completion
    return np.append(bare, np.int32(ends[0])) if count_eos else bare


def trainable(samples: Samples, *, ends: Sequence[int], count_eos: bool, context_length: int) -> Samples:
    """The samples, with their completions reduced to the tokens that bear loss.

    Raises:
        ConfigError: the end token counts, but the base has none.
        DataError: a sample is longer than ``context_length`` (samples are never truncated), or its completion is only
            the end token and that does not count.
    """
    if count_eos and not ends:
        raise ConfigError("count_eos is true, but the base has no end token", action="set count_eos: false")
    reduced = partial(answer_ids, ends=ends, count_eos=count_eos)
    known = replace(samples, completion_ids=DerivedColumn(reduced, samples.completion_ids))
    for key, prompt, answer in zip(known.sample_id, known.input_ids, known.completion_ids, strict=True):
        if not len(answer):
            raise DataError(f"sample {key} is answered by the end token alone", action="set count_eos: true")
        if len(prompt) + len(answer) > context_length:
            raise DataError(
                f"sample {key} has {len(prompt)} + {len(answer)} tokens, context_length allows {context_length}",
                action="raise context_length or lower instructions.max_events; samples are never truncated",
            )
    return known


def sample_lengths(samples: Samples) -> Indices:
    """Number of tokens of each sample, prompt and completion together: [N]."""
    pairs: Iterable[tuple[TokenIds, TokenIds]] = zip(samples.input_ids, samples.completion_ids, strict=True)
    return np.fromiter((len(prompt) + len(answer) for prompt, answer in pairs), dtype=np.int64, count=len(samples))


def batch_of(samples: Samples, indices: Indices, *, length_step: int = 1) -> LabelledBatch:
    """The samples at ``indices`` as one batch whose width is a multiple of ``length_step``."""
    prompts, completions = ([column[i] for i in indices] for column in (samples.input_ids, samples.completion_ids))
    return labelled_batch(prompts, completions, length_step=length_step)
