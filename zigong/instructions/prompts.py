"""Prompts and their token ids for many sequences at once: rendered lines are taken by their numbers and joined."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from zigong.instructions.branches import Branch, VisibleHistory
from zigong.instructions.computed import ANSWERED_FROM
from zigong.instructions.encode import LineEncoder
from zigong.instructions.folding import fold_steps, folded_to_fit
from zigong.instructions.histories import Events, Histories, Integers, local_date_of, months_of, render_histories
from zigong.instructions.render import render_history, render_line
from zigong.instructions.templates import Template
from zigong.recipe import Instructions

BYTES_OF_A_BATCH = 64 * 2**20  # of text that leaves at once
Ask = Callable[[VisibleHistory], Branch]


@dataclass(frozen=True, kw_only=True)
class RenderContext:
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
    """One prompt of a sequence: lines told anew, then shared lines of the events up to ``end``, then the branch.

    Attributes:
        row: the sequence.
        told: what ``anew`` and the events from ``start`` to ``end`` say.
        history_tokens: where the history ends in the ids.
    """

    row: int
    told: VisibleHistory
    anew: tuple[str, ...]
    start: int
    end: int
    history_tokens: int
    branch: Branch
    branch_ids: list[int]

    @property
    def tokens(self) -> int:
        """Tokens of history and branch."""
        return self.history_tokens + len(self.branch_ids)


@dataclass(frozen=True, kw_only=True)
class PromptColumns:
    """Prompts ready for a table, in lists and Arrow arrays of equal length.

    Attributes:
        rows: the sequence of each prompt.
        branches: the question of each prompt.
        texts: the prompts.
        input_ids: their token ids, list<int32>.
        history_tokens: where the history ends in the ids, int32.
    """

    rows: pa.Array
    branches: list[Branch]
    texts: pa.Array
    input_ids: pa.Array
    history_tokens: pa.Array


@dataclass
class Prompts:
    """Collects the prompts of a batch of sequences, any number of each; a history is rendered once for all of them."""

    histories: Histories
    encoder: LineEncoder
    voice: RenderContext
    _prompts: list[Prompt] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._ids = [self.encoder.line(line) for line in self.histories.lines]
        sizes = np.array([len(ids) for ids in self._ids], dtype=np.int64)
        self._tokens_before = np.concatenate([[0], np.cumsum(sizes[self.histories.codes])])

    def add(self, row: int, ask: Ask, max_tokens: int) -> Prompt:
        """Adds a prompt of a sequence, with its oldest calendar months folded until it fits."""
        start, end = self.histories.events.bounds[row : row + 2].tolist()
        prompt = self._shared(row, (), start, ask)
        if prompt.tokens > max_tokens and end > start:
            prompt = self._folded(row, ask, max_tokens)
        self._prompts.append(prompt)
        return prompt

    def add_behind(self, prompt: Prompt, branch: Branch) -> None:
        """Adds another question behind the history of a prompt, however long that makes it."""
        self._prompts.append(replace(prompt, branch=branch, branch_ids=self.encoder.branch(branch.lines)))

    def columns(self) -> Iterator[PromptColumns]:
        """The prompts in the order in which they were added, in parts of bounded size."""
        lines, codes, starts, ends = self._numbered()
        before = np.concatenate([[0], np.cumsum(np.array([len(line.encode()) + 1 for line in lines])[codes])])
        branches = ["\n".join(prompt.branch.lines) for prompt in self._prompts]
        text_bytes = before[ends] - before[starts] + np.array([len(branch) for branch in branches], dtype=np.int64)
        for part in intervals(text_bytes, BYTES_OF_A_BATCH):
            sizes, prompts = ends[part] - starts[part], self._prompts[part]
            taken = codes[ranges(starts[part], sizes)]
            texts = pc.binary_join(lists_of(pa.array(lines, pa.string()), taken, sizes, branches[part]), "\n")
            yield PromptColumns(
                rows=pa.array([prompt.row for prompt in prompts]),
                branches=[prompt.branch for prompt in prompts],
                texts=texts,
                input_ids=self._token_ids(taken, sizes, [prompt.branch_ids for prompt in prompts]),
                history_tokens=pa.array([prompt.history_tokens for prompt in prompts], pa.int32()),
            )

    def _shared(self, row: int, anew: tuple[str, ...], kept: int, ask: Ask) -> Prompt:
        """The prompt of the events from ``kept`` on, of which those in ``anew`` are told anew."""
        events, days = self.histories.events, self.histories.days
        start, end = events.bounds[row : row + 2].tolist()
        told = VisibleHistory(
            last=local_date_of(int(days[end - 1])) if end > start else None,
            folded=kept - start,
            read=lambda: events.told(kept, end, ANSWERED_FROM),
        )
        shared = int(self._tokens_before[end] - self._tokens_before[kept + len(anew)])
        branch = ask(told)
        return Prompt(
            row=row,
            told=told,
            anew=anew,
            start=kept + len(anew),
            end=end,
            history_tokens=len(self.encoder.history(anew)) + shared,
            branch=branch,
            branch_ids=self.encoder.branch(branch.lines),
        )

    def _folded(self, row: int, ask: Ask, max_tokens: int) -> Prompt:
        days, events = self.histories.days, self.histories.events
        start, end = events.bounds[row : row + 2].tolist()
        steps = fold_steps(months_of(days[start:end]))
        if (np.diff(steps) < 0).any():
            return self._folded_out_of_order(row, steps, ask, max_tokens)
        kept = start + np.searchsorted(steps, np.arange(steps[-1] + 1))

        def told(step: int) -> Prompt:
            first = int(kept[step])
            if step == 0:
                return self._shared(row, (), start, ask)
            (event,) = events.told(first, first + 1)
            day = local_date_of(int(days[first]))
            opening = render_line(None, day, event, template=self.voice.template, settings=self.voice.settings)
            return self._shared(row, (opening,), first, ask)

        too_long = self._tokens_before[end] - self._tokens_before[kept + 1] > max_tokens
        return folded_to_fit(steps, told, max_tokens, first=int(np.count_nonzero(too_long)))

    def _folded_out_of_order(self, row: int, steps: Integers, ask: Ask, max_tokens: int) -> Prompt:
        """Where clocks were set back over the end of a month, what is kept is no tail of the history."""
        start, end = self.histories.events.bounds[row : row + 2].tolist()
        events = self.histories.events.told(start, end)

        def prompt_of(step: int) -> Prompt:
            positions = np.flatnonzero(steps >= step)
            kept = [events[position] for position in positions]
            lines = render_history(
                kept, template=self.voice.template, settings=self.voice.settings, zone=self.voice.zone
            )
            told = VisibleHistory(
                last=local_date_of(int(self.histories.days[start + positions[-1]])),
                folded=len(events) - len(kept),
                read=lambda: kept,
            )
            branch = ask(told)
            return Prompt(
                row=row,
                told=told,
                anew=tuple(lines),
                start=end,
                end=end,
                history_tokens=len(self.encoder.history(lines)),
                branch=branch,
                branch_ids=self.encoder.branch(branch.lines),
            )

        return folded_to_fit(steps, prompt_of, max_tokens)

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
