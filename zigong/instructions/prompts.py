"""Builds prompts and token ids of many sequences at once: rendered lines are selected by index and joined."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from zigong.instructions.branches import Branch, VisibleHistory
from zigong.instructions.codes import Integers
from zigong.instructions.computed import ANSWERED_FROM
from zigong.instructions.encode import LineEncoder
from zigong.instructions.folding import fold_steps, folded_to_fit
from zigong.instructions.histories import Events, Histories, local_date_of, months_of, render_histories
from zigong.instructions.numbers import NumberWords
from zigong.instructions.render import Event, render_history, render_line
from zigong.instructions.templates import Template
from zigong.recipe import Instructions

BYTES_OF_A_BATCH = 64 * 2**20  # text in one output batch
Ask = Callable[[VisibleHistory], Branch]


@dataclass(frozen=True, kw_only=True)
class RenderContext:
    """The settings that lines are rendered with.

    Attributes:
        zone: business time zone.
        numbers: bins of numbers; None: numbers are rounded.
    """

    template: Template
    settings: Instructions
    zone: ZoneInfo
    numbers: NumberWords | None = None

    def render(self, events: Events) -> Histories:
        """The rendered histories of the sequences."""
        return render_histories(
            events, template=self.template, settings=self.settings, zone=self.zone, numbers=self.numbers
        )

    def render_opening(self, event: Event, day: date) -> str:
        """The line of the first visible event, which has the local date ``day``."""
        return render_line(None, day, event, template=self.template, settings=self.settings, numbers=self.numbers)

    def render_events(self, events: Sequence[Event]) -> list[str]:
        """The lines of one sequence."""
        return render_history(
            events, template=self.template, settings=self.settings, zone=self.zone, numbers=self.numbers
        )


@dataclass(frozen=True, kw_only=True)
class Prompt:
    """One prompt of a sequence: its own lines, then the shared lines of events up to ``end``, then the branch.

    Attributes:
        row: index of the sequence.
        visible: the history that ``own_lines`` and the events from ``start`` to ``end`` show.
        own_lines: lines rendered for this prompt only.
        history_tokens: number of ids before the branch.
    """

    row: int
    visible: VisibleHistory
    own_lines: tuple[str, ...]
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
    """Prompts as columns for a table: lists and Arrow arrays of equal length.

    Attributes:
        rows: index of the sequence of each prompt.
        branches: the question of each prompt.
        texts: the prompts.
        input_ids: their token ids, list<int32>.
        history_tokens: number of ids before the branch, int32.
    """

    rows: pa.Array
    branches: list[Branch]
    texts: pa.Array
    input_ids: pa.Array
    history_tokens: pa.Array


@dataclass
class Prompts:
    """Collects the prompts of a batch of sequences, any number per sequence; each history is rendered once."""

    histories: Histories
    encoder: LineEncoder
    context: RenderContext
    _prompts: list[Prompt] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._ids = [self.encoder.line(line) for line in self.histories.lines]
        sizes = np.array([len(ids) for ids in self._ids], dtype=np.int64)
        self._tokens_before = np.concatenate([[0], np.cumsum(sizes[self.histories.codes])])

    def add(self, row: int, ask: Ask, max_tokens: int) -> Prompt:
        """Adds a prompt of a sequence, folding its oldest calendar months until it fits."""
        start, end = self.histories.events.bounds[row : row + 2].tolist()
        prompt = self._shared(row, (), start, ask)
        if prompt.tokens > max_tokens and end > start:
            prompt = self._folded(row, ask, max_tokens)
        self._prompts.append(prompt)
        return prompt

    def add_branch(self, prompt: Prompt, branch: Branch) -> None:
        """Adds a prompt with the same history and another question, whatever its length."""
        self._prompts.append(replace(prompt, branch=branch, branch_ids=self.encoder.branch(branch.lines)))

    def columns(self) -> Iterator[PromptColumns]:
        """The prompts in the order they were added, in parts of bounded size."""
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

    def _shared(self, row: int, own_lines: tuple[str, ...], kept: int, ask: Ask) -> Prompt:
        """The prompt of the events from ``kept`` on; ``own_lines`` replace the lines of the first of them."""
        events, days = self.histories.events, self.histories.days
        start, end = events.bounds[row : row + 2].tolist()
        visible = VisibleHistory(
            last=local_date_of(int(days[end - 1])) if end > start else None,
            folded=kept - start,
            read=lambda: events.rows(kept, end, ANSWERED_FROM),
            recall=lambda loan, most: events.newest_of_loan(kept, end, loan, most),
        )
        shared = int(self._tokens_before[end] - self._tokens_before[kept + len(own_lines)])
        branch = ask(visible)
        return Prompt(
            row=row,
            visible=visible,
            own_lines=own_lines,
            start=kept + len(own_lines),
            end=end,
            history_tokens=len(self.encoder.history(own_lines)) + shared,
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

        def prompt_from(step: int) -> Prompt:
            first = int(kept[step])
            if step == 0:
                return self._shared(row, (), start, ask)
            (event,) = events.rows(first, first + 1)
            day = local_date_of(int(days[first]))
            return self._shared(row, (self.context.render_opening(event, day),), first, ask)

        too_long = self._tokens_before[end] - self._tokens_before[kept + 1] > max_tokens
        return folded_to_fit(steps, prompt_from, max_tokens, first=int(np.count_nonzero(too_long)))

    def _folded_out_of_order(self, row: int, steps: Integers, ask: Ask, max_tokens: int) -> Prompt:
        """Folds a history whose kept events are not its tail: clocks were set back over the end of a month."""
        start, end = self.histories.events.bounds[row : row + 2].tolist()
        events = self.histories.events.rows(start, end)

        def prompt_of(step: int) -> Prompt:
            positions = np.flatnonzero(steps >= step)
            kept = [events[position] for position in positions]
            lines = self.context.render_events(kept)
            visible = VisibleHistory(
                last=local_date_of(int(self.histories.days[start + positions[-1]])),
                folded=len(events) - len(kept),
                read=lambda: kept,
                recall=lambda loan, most: [event for event in kept if event.get("loan") == loan][-most:],
            )
            branch = ask(visible)
            return Prompt(
                row=row,
                visible=visible,
                own_lines=tuple(lines),
                start=end,
                end=end,
                history_tokens=len(self.encoder.history(lines)),
                branch=branch,
                branch_ids=self.encoder.branch(branch.lines),
            )

        return folded_to_fit(steps, prompt_of, max_tokens)

    def _numbered(self) -> tuple[list[str], Integers, Integers, Integers]:
        """All distinct lines, an array of line indices, and where each prompt's history starts and ends in it."""
        lines, numbers = list(self.histories.lines), {}
        runs, length = [self.histories.codes], len(self.histories.codes)
        starts, ends = [], []
        for prompt in self._prompts:
            if not prompt.own_lines:
                starts.append(prompt.start)
                ends.append(prompt.end)
                continue
            for line in prompt.own_lines:
                if line not in numbers:
                    numbers[line] = len(lines)
                    lines.append(line)
                    self._ids.append(self.encoder.line(line))
            shared = self.histories.codes[prompt.start : prompt.end]
            runs.append(np.concatenate([[numbers[line] for line in prompt.own_lines], shared]))
            starts.append(length)
            length += len(runs[-1])
            ends.append(length)
        return lines, np.concatenate(runs), np.array(starts, dtype=np.int64), np.array(ends, dtype=np.int64)

    def _token_ids(self, codes: Integers, sizes: Integers, branches: list[list[int]]) -> pa.Array:
        """Ids of each prompt: the ids at the beginning of a text, its lines, its branch."""
        begin = np.cumsum(sizes) - sizes
        known = pa.array([self.encoder.begin, *self._ids], pa.list_(pa.int32()))
        parts = lists_of(known, np.insert(codes + 1, begin, 0), sizes + 1, branches)
        ends = parts.flatten().offsets.take(parts.offsets)
        return pa.ListArray.from_arrays(ends, parts.flatten().flatten())


def lists_of(values: pa.Array, codes: Integers, sizes: npt.NDArray[Any], tails: list[Any]) -> pa.ListArray:
    """Lists of values: concatenated indices into ``values``, the size of each list, and a last value for each list."""
    ends = np.cumsum(sizes)
    every = pa.concat_arrays([values, pa.array(tails, values.type)])
    numbers = np.insert(codes, ends, len(values) + np.arange(len(tails)))
    bounds = np.concatenate([[0], ends + np.arange(1, len(tails) + 1)]).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(bounds), every.take(pa.array(numbers)))


def intervals(weights: npt.NDArray[Any], limit: int) -> Iterator[slice]:
    """Groups consecutive items whose weights sum to at most ``limit``; a heavier item is a group of its own."""
    before = np.concatenate([[0], np.cumsum(weights)])
    start = 0
    while start < len(weights):
        end = max(start + 1, int(np.searchsorted(before, before[start] + limit, side="right")) - 1)
        yield slice(start, end)
        start = end


def ranges(starts: Integers, sizes: Integers) -> Integers:
    """The indices of all intervals, concatenated."""
    before = np.cumsum(sizes) - sizes
    numbers: Integers = np.arange(int(sizes.sum())) + np.repeat(starts - before, sizes)
    return numbers
