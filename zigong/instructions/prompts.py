"""Prompts and their token ids for many sequences at once: rendered lines are taken by their numbers and joined."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from zigong.instructions.encode import LineEncoder
from zigong.instructions.folding import fold_steps, folded_to_fit
from zigong.instructions.histories import Events, Histories, Integers, local_date_of, months_of, render_histories
from zigong.instructions.render import render_history, render_line
from zigong.instructions.templates import Template
from zigong.recipe import Instructions

BYTES_OF_A_BATCH = 64 * 2**20  # of text that leaves at once
# The lines behind a history, from the local date of its last event (None: it is empty) and the events folded here.
Branch = Callable[[date | None, int], Sequence[str]]


@dataclass(frozen=True, kw_only=True)
class Voice:
    """How lines are told.

    Attributes:
        zone: business time zone.
    """

    template: Template
    settings: Instructions
    zone: ZoneInfo

    def told(self, events: Events) -> Histories:
        """The rendered histories of some sequences."""
        return render_histories(events, template=self.template, settings=self.settings, zone=self.zone)


@dataclass(frozen=True, kw_only=True)
class Prompt:
    """One prompt: lines told anew, then the shared lines of the events from ``start`` to ``end``, then the branch."""

    anew: tuple[str, ...] = ()
    start: int
    end: int
    branch: tuple[str, ...]
    branch_ids: list[int]
    tokens: int


@dataclass(frozen=True, kw_only=True)
class PromptColumns:
    """Prompts ready for a table, as Arrow arrays of equal length.

    Attributes:
        rows: the sequence of each prompt.
        texts: the prompts.
        input_ids: their token ids, list<int32>.
        history_tokens: where the history ends in the ids, int32.
    """

    rows: pa.Array
    texts: pa.Array
    input_ids: pa.Array
    history_tokens: pa.Array


@dataclass
class Prompts:
    """Collects the prompts of a batch of sequences, any number of each; a history is rendered once for all of them."""

    histories: Histories
    encoder: LineEncoder
    voice: Voice
    _rows: list[int] = field(default_factory=list)
    _prompts: list[Prompt] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._ids = [self.encoder.line(line) for line in self.histories.lines]
        sizes = np.array([len(ids) for ids in self._ids], dtype=np.int64)
        self._tokens_before = np.concatenate([[0], np.cumsum(sizes[self.histories.codes])])

    def add(self, row: int, branch: Branch, max_tokens: int) -> None:
        """Adds a prompt of a sequence, with its oldest calendar months folded until it fits."""
        start, end = self.histories.events.bounds[row : row + 2].tolist()
        prompt = self._shared((), start, start, end, branch)
        if prompt.tokens > max_tokens and end > start:
            prompt = self._folded(start, end, branch, max_tokens)
        self._rows.append(row)
        self._prompts.append(prompt)

    def columns(self) -> Iterator[PromptColumns]:
        """The prompts in the order in which they were added, in parts of bounded size."""
        lines, codes, starts, ends = self._numbered()
        before = np.concatenate([[0], np.cumsum(np.array([len(line.encode()) + 1 for line in lines])[codes])])
        branches = ["\n".join(prompt.branch) for prompt in self._prompts]
        text_bytes = before[ends] - before[starts] + np.array([len(branch) for branch in branches], dtype=np.int64)
        for part in intervals(text_bytes, BYTES_OF_A_BATCH):
            sizes = ends[part] - starts[part]
            taken = codes[ranges(starts[part], sizes)]
            texts = pc.binary_join(lists_of(pa.array(lines, pa.string()), taken, sizes, branches[part]), "\n")
            branch_ids = [prompt.branch_ids for prompt in self._prompts[part]]
            ids = self._token_ids(taken, sizes, branch_ids)
            history_tokens = pc.list_value_length(ids).to_numpy() - [len(of_branch) for of_branch in branch_ids]
            yield PromptColumns(
                rows=pa.array(self._rows[part]),
                texts=texts,
                input_ids=ids,
                history_tokens=pa.array(history_tokens, pa.int32()),
            )

    def _shared(self, anew: tuple[str, ...], start: int, kept: int, end: int, branch: Branch) -> Prompt:
        """The prompt of the events from ``kept`` on, of which those in ``anew`` are told anew."""
        last = local_date_of(int(self.histories.days[end - 1])) if end > start else None
        asked = tuple(branch(last, kept - start))
        branch_ids, begin = self.encoder.branch(asked), self.encoder.history(anew)
        shared = int(self._tokens_before[end] - self._tokens_before[kept + len(anew)])
        return Prompt(
            anew=anew,
            start=kept + len(anew),
            end=end,
            branch=asked,
            branch_ids=branch_ids,
            tokens=len(begin) + shared + len(branch_ids),
        )

    def _folded(self, start: int, end: int, branch: Branch, max_tokens: int) -> Prompt:
        days, events = self.histories.days, self.histories.events
        steps = fold_steps(months_of(days[start:end]))
        if (np.diff(steps) < 0).any():
            return self._folded_out_of_order(steps, start, end, branch, max_tokens)
        kept = start + np.searchsorted(steps, np.arange(steps[-1] + 1))

        def told(step: int) -> Prompt:
            first = int(kept[step])
            if step == 0:
                return self._shared((), start, start, end, branch)
            (event,) = events.told(first, first + 1)
            day = local_date_of(int(days[first]))
            opening = render_line(None, day, event, template=self.voice.template, settings=self.voice.settings)
            return self._shared((opening,), start, first, end, branch)

        too_long = self._tokens_before[end] - self._tokens_before[kept + 1] > max_tokens
        return folded_to_fit(steps, told, max_tokens, first=int(np.count_nonzero(too_long)))

    def _folded_out_of_order(self, steps: Integers, start: int, end: int, branch: Branch, max_tokens: int) -> Prompt:
        """Where clocks were set back over the end of a month, what is kept is no tail of the history."""
        events = self.histories.events.told(start, end)

        def told(step: int) -> Prompt:
            kept = np.flatnonzero(steps >= step)
            lines = render_history(
                [events[position] for position in kept],
                template=self.voice.template,
                settings=self.voice.settings,
                zone=self.voice.zone,
            )
            asked = tuple(branch(local_date_of(int(self.histories.days[start + kept[-1]])), len(events) - len(kept)))
            branch_ids = self.encoder.branch(asked)
            tokens = len(self.encoder.history(lines)) + len(branch_ids)
            return Prompt(anew=tuple(lines), start=end, end=end, branch=asked, branch_ids=branch_ids, tokens=tokens)

        return folded_to_fit(steps, told, max_tokens)

    def _numbered(self) -> tuple[list[str], Integers, Integers, Integers]:
        """All lines, a run of their numbers, and where in that run the history of each prompt starts and ends."""
        lines, numbers = list(self.histories.lines), {}
        runs, length = [self.histories.codes], len(self.histories.codes)
        starts, ends = [], []
        for prompt in self._prompts:
            if not prompt.anew:
                starts.append(prompt.start)
                ends.append(prompt.end)
                continue
            for line in prompt.anew:
                if line not in numbers:
                    numbers[line] = len(lines)
                    lines.append(line)
                    self._ids.append(self.encoder.line(line))
            shared = self.histories.codes[prompt.start : prompt.end]
            runs.append(np.concatenate([[numbers[line] for line in prompt.anew], shared]))
            starts.append(length)
            length += len(runs[-1])
            ends.append(length)
        return lines, np.concatenate(runs), np.array(starts, dtype=np.int64), np.array(ends, dtype=np.int64)

    def _token_ids(self, codes: Integers, sizes: Integers, branches: list[list[int]]) -> pa.Array:
        """Ids of each prompt: what begins a text, its lines, its branch."""
        begin = np.cumsum(sizes) - sizes
        known = pa.array([self.encoder.begin, *self._ids], pa.list_(pa.int32()))
        told = lists_of(known, np.insert(codes + 1, begin, 0), sizes + 1, branches)
        ends = told.flatten().offsets.take(told.offsets)
        return pa.ListArray.from_arrays(ends, told.flatten().flatten())


def lists_of(values: pa.Array, codes: Integers, sizes: npt.NDArray[Any], tails: list[Any]) -> pa.ListArray:
    """Lists of values, given by their numbers one list after the other, each with a value of its own at its end."""
    ends = np.cumsum(sizes)
    every = pa.concat_arrays([values, pa.array(tails, values.type)])
    numbers = np.insert(codes, ends, len(values) + np.arange(len(tails)))
    bounds = np.concatenate([[0], ends + np.arange(1, len(tails) + 1)]).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(bounds), every.take(pa.array(numbers)))


def intervals(weights: npt.NDArray[Any], limit: int) -> Iterator[slice]:
    """Neighbours together as long as their weights sum to at most ``limit``; a heavier one stands alone."""
    before = np.concatenate([[0], np.cumsum(weights)])
    start = 0
    while start < len(weights):
        end = max(start + 1, int(np.searchsorted(before, before[start] + limit, side="right")) - 1)
        yield slice(start, end)
        start = end


def ranges(starts: Integers, sizes: Integers) -> Integers:
    """The numbers of all intervals, one interval after the other."""
    before = np.cumsum(sizes) - sizes
    numbers: Integers = np.arange(int(sizes.sum())) + np.repeat(starts - before, sizes)
    return numbers
