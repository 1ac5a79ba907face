"""Further horizons: their prompts, their answers as columns, and answers that are monotone over all horizons.

A client who is 30 days late within three months is so within six: bad by one horizon implies bad by every horizon with
a window at least as long and a threshold at most as high. Probabilities of separate questions may contradict that.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from zigong.errors import DataError
from zigong.evaluation.fusion import Stack, fit_stack, stacked
from zigong.instructions.encode import LineEncoder
from zigong.instructions.prompt_spec import PromptSpec
from zigong.recipe import Horizon
from zigong.tokens.samples import TokenIds

Floats = NDArray[np.float64]
HORIZONS = pa.list_(pa.struct([("window_months", pa.int32()), ("dpd_threshold", pa.int32()), ("p_bad", pa.float64())]))


@dataclass(frozen=True, kw_only=True)
class AskedHorizon:
    """A further horizon that a card is asked about, with its calibration, which is fitted on ``select``.

    Its probability is ``1 / (1 + exp(-(intercept + own * logit(p_own) + first * logit(p_first))))``: what the language
    model answers about this horizon, and the card's calibrated probability for the first one.

    Attributes:
        own: weight of the language model's answer, 0 or more.
        first: weight of the first horizon, 0 or more: the trees of a fused card are part of it.
    """

    horizon: Horizon
    intercept: float
    own: float
    first: float

    @classmethod
    def fitted(cls, horizon: Horizon, p_own: Floats, p_first: Floats, labels: NDArray[np.integer]) -> AskedHorizon:
        """Fits the weights by maximum likelihood.

        Args:
            horizon: the horizon.
            p_own: answers about it; shape [samples].
            p_first: calibrated probabilities for the first horizon; shape [samples].
            labels: 1 = bad by this horizon; shape [samples].

        Raises:
            DataError: one class is missing.
        """
        stack = fit_stack(p_own, p_first, labels)
        return cls(horizon=horizon, intercept=stack.intercept, own=stack.model, first=stack.trees)

    def calibrated(self, p_own: Floats, p_first: Floats) -> Floats:
        """Probabilities of bad by this horizon, NaN where there is no answer about it; shape [samples]."""
        return stacked(Stack(intercept=self.intercept, model=self.own, trees=self.first), p_own, p_first)


@dataclass(frozen=True, kw_only=True)
class FurtherPrompt:
    """A prompt about a further horizon.

    Attributes:
        row: index of the main prompt.
        place: index of the horizon.
        input_ids: the main prompt's ids with the question line of this horizon.
    """

    row: int
    place: int
    input_ids: TokenIds


def further_prompts(
    prompts: Sequence[TokenIds], spec: PromptSpec, encoder: LineEncoder, horizons: Sequence[Horizon]
) -> list[FurtherPrompt]:
    """The prompts about further horizons, by horizon; one that does not fit the context is left out.

    Only the question line differs from the main prompt. It is the last one and encoded alone, so the ids before it are
    the same, and so are those of the samples that the model was trained on.

    Args:
        prompts: [N] ids of the main prompts.
        spec: settings of all prompts of the model.
        encoder: its tokenizer.
        horizons: the further horizons.

    Raises:
        DataError: a prompt does not end with the main question.
    """
    template, phrasings = spec.template, range(len(spec.template.phrasings))
    known = [encoder.branch([line]) for line in spec.question_lines]
    others = [[encoder.branch([template.ask(horizon, number)]) for number in phrasings] for horizon in horizons]
    most = spec.context_length - 1 - max(len(encoder.completion(choice)) for choice in template.choices)
    asked = [_phrasing(ids, known) for ids in prompts] if horizons else []
    found = []
    for place, questions in enumerate(others):
        for row, (ids, number) in enumerate(zip(prompts, asked, strict=True)):
            size = len(ids) - len(known[number])
            if size + len(questions[number]) <= most:
                own = np.concatenate([ids[:size], np.array(questions[number], dtype=np.int32)])
                found.append(FurtherPrompt(row=row, place=place, input_ids=own))
    return found


def _phrasing(ids: TokenIds, questions: Sequence[Sequence[int]]) -> int:
    """The index of the longest question that a prompt ends with."""
    ends = [number for number, question in enumerate(questions) if ids[-len(question) :].tolist() == list(question)]
    if not ends:
        raise DataError(
            "a prompt does not end with the main question, so that no other horizon can be asked instead",
            action="build the instruction samples again (build_instructions)",
        )
    return max(ends, key=lambda number: len(questions[number]))


def horizon_lists(horizons: Sequence[Horizon], p_bad: Floats) -> pa.Array:
    """The column ``horizons`` of a table of answers; NaN is left out, and without horizons every row is null.

    Args:
        horizons: [H] further horizons.
        p_bad: shape [rows, H].
    """
    if not horizons:
        return pa.nulls(len(p_bad), HORIZONS)
    rows, places = np.nonzero(~np.isnan(p_bad))
    windows = np.array([horizon.window_months for horizon in horizons], dtype=np.int32)
    thresholds = np.array([horizon.dpd_threshold for horizon in horizons], dtype=np.int32)
    items = pa.StructArray.from_arrays(
        [pa.array(windows[places]), pa.array(thresholds[places]), pa.array(p_bad[rows, places])],
        fields=list(HORIZONS.value_type),
    )
    ends = np.cumsum(np.bincount(rows, minlength=len(p_bad)))
    return pa.ListArray.from_arrays(pa.array(np.concatenate([[0], ends]).astype(np.int32)), items)


def horizon_matrix(column: pa.ChunkedArray, horizons: Sequence[Horizon]) -> Floats:
    """The probabilities in a column ``horizons``, NaN where a row has none; shape [rows, H].

    Args:
        column: of the type HORIZONS.
        horizons: [H] further horizons.
    """
    lists = pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], HORIZONS)
    rows, items = pc.list_parent_indices(lists).to_numpy(zero_copy_only=False), pc.list_flatten(lists)
    windows, thresholds, values = (items.field(name).to_numpy(zero_copy_only=False) for name in _FIELDS)
    p_bad = np.full((len(lists), len(horizons)), np.nan)
    for place, horizon in enumerate(horizons):
        chosen = (windows == horizon.window_months) & (thresholds == horizon.dpd_threshold)
        p_bad[rows[chosen], place] = values[chosen]
    return p_bad


_FIELDS = ("window_months", "dpd_threshold", "p_bad")


def implies(one: Horizon, other: Horizon) -> bool:
    """Whether who is bad by one horizon is bad by the other as well."""
    return one.window_months <= other.window_months and one.dpd_threshold >= other.dpd_threshold


def monotone(horizons: Sequence[Horizon], p_bad: Floats) -> Floats:
    """Probabilities in which no horizon is likelier than one that it implies; the first horizon stays unchanged.

    Each further horizon is clipped to what the horizons before it allow: at least every one that implies it, at most
    every one that it implies. Those before it already agree with each other, so the bounds never cross.

    Args:
        horizons: [H] horizons, the main one first.
        p_bad: shape [rows, H]; NaN stays NaN and binds no other horizon.
    """
    found = p_bad.copy()
    for place, horizon in enumerate(horizons):
        before = list(enumerate(horizons[:place]))
        low = [found[:, number] for number, other in before if implies(other, horizon)]
        high = [found[:, number] for number, other in before if implies(horizon, other)]
        least = np.fmax.reduce([np.zeros(len(found)), *low])
        most = np.fmin.reduce([np.ones(len(found)), *high])
        found[:, place] = np.clip(found[:, place], least, most)
    return found


def calibrated_horizons(further: Sequence[AskedHorizon], p_bad: Floats, p_main: Floats) -> Floats:
    """Probabilities of further horizons, each with its own calibration; shape [rows, H].

    Args:
        further: [H] the horizons, at least one.
        p_bad: answers of the language model; shape [rows, H], NaN where it has none.
        p_main: calibrated probabilities of the card for the first horizon; shape [rows].
    """
    return np.column_stack([asked.calibrated(p_bad[:, place], p_main) for place, asked in enumerate(further)])


def served_horizons(main: Horizon, further: Sequence[AskedHorizon], p_main: Floats, column: pa.ChunkedArray) -> Floats:
    """Calibrated probabilities of further horizons that agree with those of the main one; shape [rows, H].

    Args:
        main: the horizon of the card.
        further: [H] the further horizons, at least one.
        p_main: calibrated probabilities of the card; shape [rows].
        column: answers of the language model about further horizons, of the type HORIZONS.
    """
    horizons = [asked.horizon for asked in further]
    own = calibrated_horizons(further, horizon_matrix(column, horizons), p_main)
    return monotone([main, *horizons], np.column_stack([p_main, own]))[:, 1:]
