"""Samples that are mapped from a file are those that are read into memory, and hold no tokens."""

from __future__ import annotations

import tracemalloc
from datetime import date
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from tests.support.mapped import mapped, table_of
from tests.support.tiny_models import make_samples
from zigong.errors import DataError
from zigong.recipe import FinalTraining
from zigong.tokens.columns import ArrowColumn, DerivedColumn
from zigong.tokens.samples import Samples, sample_lengths, trainable
from zigong.training.plan import plan_steps, single_units

MONTHS = (date(2023, 3, 1), date(2023, 1, 1))


def _rows(samples: Samples) -> list[tuple[object, ...]]:
    columns = [getattr(samples, name) for name in samples.__dataclass_fields__]
    return [
        tuple(value.tolist() if isinstance(value, np.ndarray) else value for value in row)
        for row in zip(*columns, strict=True)
    ]


def test_mapped_samples_equal_those_in_memory_in_every_order(tmp_path: Path) -> None:
    samples = make_samples(50, dates=MONTHS)
    found = mapped(samples, tmp_path / "samples.arrow", rows=7)
    assert _rows(found) == _rows(samples)
    drawn = np.random.default_rng(1).permutation(50)
    assert _rows(found.take(drawn)) == _rows(samples.take(drawn))
    assert _rows(found.take(drawn).take(drawn[:20])) == _rows(samples.take(drawn[drawn[:20]]))
    expected = sorted(_rows(samples), key=lambda row: (row[2], row[0]))
    assert _rows(found.by_date()) == _rows(samples.take(drawn).by_date()) == _rows(found.take(drawn).by_date())
    assert _rows(found.by_date()) == expected
    assert [ids.tolist() for ids in found.input_ids[3:30:4]] == [ids.tolist() for ids in samples.input_ids[3:30:4]]
    assert found.sample_id[-1] == samples.sample_id[-1]
    with pytest.raises(IndexError, match="row 50 of 50"):
        found.sample_id[50]


def test_answers_that_bear_loss_are_computed_when_they_are_read(tmp_path: Path) -> None:
    samples = make_samples(20)
    ends = [int(samples.completion_ids[3][-1])]
    one, two = (
        trainable(held, ends=ends, count_eos=True, context_length=99).take([5, 3])
        for held in (samples, mapped(samples, tmp_path / "samples.arrow"))
    )
    assert isinstance(two.completion_ids, DerivedColumn)
    assert [ids.tolist() for ids in one.completion_ids] == [ids.tolist() for ids in two.completion_ids]
    assert sample_lengths(one).tolist() == sample_lengths(two).tolist()


def test_an_answer_of_the_end_token_alone_is_refused_by_name() -> None:
    samples = make_samples(4)
    ends = [int(samples.completion_ids[3][0])]
    with pytest.raises(DataError, match="s000 is answered by the end token alone"):
        trainable(samples, ends=ends, count_eos=False, context_length=99)


@pytest.mark.parametrize("kind", [pa.list_(pa.int32()), pa.large_list(pa.int64()), pa.list_(pa.int16())])
def test_lists_of_every_width_are_read_as_int32_and_null_as_none(kind: pa.DataType) -> None:
    column = ArrowColumn[np.ndarray](
        pa.chunked_array([pa.array([[9], [1, 2], None, []], kind).slice(1), pa.array([[5]], kind)])
    )
    assert [ids.tolist() for ids in column] == [[1, 2], [], [], [5]]
    assert {ids.dtype for ids in column} == {np.dtype(np.int32)}


def test_what_cannot_be_trained_is_refused_by_name_when_it_is_mapped(tmp_path: Path) -> None:
    table, file = table_of(make_samples(3)), tmp_path / "samples.arrow"
    empty = table.set_column(5, "input_ids", pa.array([[1], None, [2]], pa.list_(pa.int32())))
    twice = table.set_column(0, "sample_id", pa.array(["b", "a", "b"]))
    for wrong, message in (
        (empty, "1 samples have no prompt tokens, first s001"),
        (twice, r"not unique, for example \['b'\]"),
        (table.drop_columns(["label"]), "lack the columns"),
    ):
        with pa.ipc.new_file(str(file), wrong.schema) as writer:
            writer.write_table(wrong)
        with pytest.raises(DataError, match=message):
            Samples.mapped(file)


def test_mapped_samples_and_their_plan_take_little_memory_however_long_they_are(tmp_path: Path) -> None:
    size, tokens = 2_000, 4_000
    samples = make_samples(size)
    ids = tuple(np.random.default_rng(1).integers(3, 23, (size, tokens), dtype=np.int32))
    file = tmp_path / "samples.arrow"
    mapped(Samples(**{**vars(samples), "input_ids": ids}), file)
    settings = FinalTraining(batch_size=8)
    tracemalloc.start()
    before = pa.total_allocated_bytes()
    found = trainable(Samples.mapped(file), ends=(2,), count_eos=False, context_length=9_999).by_date()
    plan = plan_steps(single_units(found, [np.arange(size)]), settings, seed=1)
    assert len(plan[0]) == size / 8
    assert (tracemalloc.get_traced_memory()[1] + pa.total_allocated_bytes() - before) / size < 200  # bytes
    tracemalloc.stop()
