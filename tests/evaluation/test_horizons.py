"""Answers about further horizons: their prompts, their columns, and that they never contradict each other."""

from __future__ import annotations

from itertools import pairwise, permutations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from zigong.errors import DataError
from zigong.evaluation.horizons import (
    HORIZONS,
    AskedHorizon,
    further_prompts,
    horizon_lists,
    horizon_matrix,
    implies,
    monotone,
    served_horizons,
)
from zigong.instructions.encode import LineEncoder
from zigong.instructions.prompt_spec import PromptSpec
from zigong.recipe import Horizon, Instructions
from zigong.training.tokenizer import train_tokenizer

SIX, THREE, NINE, TWELVE = (Horizon(window_months=months, dpd_threshold=30) for months in (6, 3, 9, 12))
SIX_LATE = Horizon(window_months=6, dpd_threshold=90)
SPEC = PromptSpec(settings=Instructions(template="behavior_card@2"), horizon=SIX, timezone="UTC", context_length=64)


@st.composite
def answers(draw: st.DrawFn) -> tuple[list[Horizon], np.ndarray]:
    """Distinct horizons, the main one first, and probabilities of a few clients, some of them unknown."""
    pairs = draw(st.lists(st.tuples(st.integers(1, 5), st.integers(1, 4)), min_size=1, max_size=6, unique=True))
    horizons = [Horizon(window_months=months, dpd_threshold=30 * late) for months, late in pairs]
    shape = (draw(st.integers(1, 5)), len(horizons))
    p_bad = draw(arrays(np.float64, shape, elements=st.floats(0, 1)))
    unknown = draw(arrays(np.bool_, shape))
    unknown[:, 0] = False
    return horizons, np.where(unknown, np.nan, p_bad)


@settings(max_examples=300, deadline=None)
@given(answers())
def test_no_horizon_is_likelier_than_one_that_it_implies_and_the_main_one_never_changes(
    case: tuple[list[Horizon], np.ndarray],
) -> None:
    horizons, p_bad = case
    found = monotone(horizons, p_bad)
    assert (found[:, 0] == p_bad[:, 0]).all()
    assert (np.isnan(found) == np.isnan(p_bad)).all()
    for (one, p_one), (other, p_other) in permutations(zip(horizons, found.T, strict=True), 2):
        if implies(one, other):
            assert not (p_one > p_other).any()  # false for NaN
    np.testing.assert_array_equal(monotone(horizons, found), found)  # and so answers that agree stay as they are


@given(st.lists(st.floats(0, 1), min_size=4, max_size=4))
def test_with_one_threshold_answers_rise_with_the_window(p: list[float]) -> None:
    found = dict(zip((6, 3, 12, 9), monotone([SIX, THREE, TWELVE, NINE], np.array([p]))[0], strict=True))
    assert all(found[shorter] <= found[longer] for shorter, longer in pairwise((3, 6, 9, 12)))


def test_answers_are_clipped_against_the_main_one_by_hand() -> None:
    p_bad = np.array(
        [
            [0.3, 0.1, 0.5, 0.4],  # agree
            [0.3, 0.4, 0.2, 0.6],  # 3 months down to 6, 12 up to 6, then 9 between them
            [0.3, 0.1, 0.5, 0.7],  # 9 down to 12
            [0.3, np.nan, np.nan, 0.1],  # 9 up to 6, the others are unknown
        ]
    )
    expected = [[0.3, 0.1, 0.5, 0.4], [0.3, 0.3, 0.3, 0.3], [0.3, 0.1, 0.5, 0.5], [0.3, np.nan, np.nan, 0.3]]
    np.testing.assert_array_equal(monotone([SIX, THREE, TWELVE, NINE], p_bad), expected)


def test_a_higher_threshold_is_no_likelier_and_horizons_that_imply_nothing_do_not_bind() -> None:
    assert monotone([SIX, SIX_LATE], np.array([[0.2, 0.4]])).tolist() == [[0.2, 0.2]]
    assert monotone([SIX_LATE, THREE], np.array([[0.2, 0.1]])).tolist() == [[0.2, 0.1]]
    assert monotone([SIX_LATE, SIX], np.array([[0.4, 0.2]])).tolist() == [[0.4, 0.4]]


def test_answers_of_a_column_are_read_by_window_and_threshold_wherever_they_are_in_it() -> None:
    p_bad = np.array([[0.1, 0.2], [np.nan, 0.4], [np.nan, np.nan]])
    lists = horizon_lists([THREE, SIX_LATE], p_bad)
    assert lists.type == HORIZONS
    assert lists.to_pylist()[1:] == [[{"window_months": 6, "dpd_threshold": 90, "p_bad": 0.4}], []]
    column = pa.chunked_array([lists, pa.nulls(1, HORIZONS)])
    np.testing.assert_array_equal(horizon_matrix(column, [THREE, SIX_LATE]), [*p_bad, [np.nan] * 2])
    np.testing.assert_array_equal(horizon_matrix(column, [SIX_LATE])[:, 0], [0.2, 0.4, np.nan, np.nan])
    np.testing.assert_array_equal(horizon_matrix(column, [TWELVE])[:, 0], [np.nan] * 4)
    assert horizon_matrix(pa.chunked_array([lists.slice(1)]), [SIX_LATE])[0, 0] == 0.4
    assert horizon_lists([], np.zeros((2, 0))).to_pylist() == [None, None]


def test_each_horizon_has_its_own_calibration_before_it_is_compared() -> None:
    further = [
        AskedHorizon(horizon=THREE, intercept=0, own=2, first=0),
        AskedHorizon(horizon=TWELVE, intercept=0, own=1, first=0.5),
    ]
    column = pa.chunked_array([horizon_lists([THREE, TWELVE], np.array([[0.2, 0.6], [0.7, 0.6]]))])
    found = served_horizons(SIX, further, np.array([0.5, 0.8]), column)
    doubled = [1 / (1 + (0.8 / 0.2) ** 2), 1 / (1 + (0.3 / 0.7) ** 2)]  # .06 and .84, above the .8 of six months
    with_first = [0.6, 1 / (1 + (0.4 / 0.6) * (0.2 / 0.8) ** 0.5)]  # even odds of six months add nothing; .75, below .8
    np.testing.assert_allclose(found, [[doubled[0], with_first[0]], [0.8, max(with_first[1], 0.8)]])


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> LineEncoder:
    template = SPEC.template
    questions = [template.ask(horizon, number) for horizon in (SIX, THREE) for number in range(3)]
    folder = tmp_path_factory.mktemp("tokenizer")
    train_tokenizer(["start login order"], [*questions, *template.choices]).save_pretrained(folder)
    return LineEncoder.of(folder)


def test_the_prompt_about_another_horizon_differs_in_its_question_line_alone(encoder: LineEncoder) -> None:
    history, template = encoder.history(["start login"]), SPEC.template
    prompts = [np.array([*history, *encoder.branch([template.ask(SIX, number)])], np.int32) for number in (2, 0, 1)]
    found = further_prompts(prompts, SPEC, encoder, [THREE])
    assert [(one.row, one.place) for one in found] == [(0, 0), (1, 0), (2, 0)]
    expected = [[*history, *encoder.branch([template.ask(THREE, number)])] for number in (2, 0, 1)]
    assert [one.input_ids.tolist() for one in found] == expected
    assert further_prompts(prompts, SPEC, encoder, []) == []


def test_a_prompt_about_another_horizon_that_exceeds_the_context_is_left_out(encoder: LineEncoder) -> None:
    long = Horizon(window_months=12, dpd_threshold=30)  # not among the fixed lines: one token per word
    asked = encoder.branch([SPEC.template.ask(long)])
    question = encoder.branch([SPEC.template.ask(SIX)])
    fits = SPEC.context_length - 2 - len(asked)
    start = encoder.line("start login")[0]
    prompts = [np.array([start] * size + question, np.int32) for size in (fits, fits + 1)]
    assert [one.row for one in further_prompts(prompts, SPEC, encoder, [long])] == [0]


def test_a_prompt_with_another_question_is_refused(encoder: LineEncoder) -> None:
    other = np.array(encoder.branch([SPEC.template.ask(THREE)]), np.int32)
    with pytest.raises(DataError, match="does not end with the main question"):
        further_prompts([other], SPEC, encoder, [THREE])
