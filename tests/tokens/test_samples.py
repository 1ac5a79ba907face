from __future__ import annotations

from datetime import UTC, date, datetime

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.tiny_models import make_samples
from zigong.errors import DataError
from zigong.tokens.samples import Samples, answer_ids, labelled_batch, token_budget_batches, trainable


def _table(**changes: object) -> pa.Table:
    columns: dict[str, object] = {
        "sample_id": ["a", "b"],
        "user_id": ["u", "v"],
        "observation_date": [date(2023, 1, 1), date(2023, 2, 1)],
        "matured_at": pa.array([datetime(2023, 4, 1), datetime(2023, 5, 1)], pa.timestamp("us", tz="UTC")),
        "label": pa.array([1, 0], pa.int32()),
        "input_ids": pa.array([[3, 4, 5], [6]], pa.list_(pa.int32())),
        "completion_ids": pa.array([[7], [8, 2]], pa.list_(pa.int32())),
    }
    return pa.table({**columns, **changes})


def test_samples_survive_arrow_even_from_sliced_chunks() -> None:
    table = pa.concat_tables([_table(), _table(sample_id=["c", "d"])]).slice(1, 2)
    samples = Samples.from_arrow(table)
    assert samples.sample_id == ("b", "c")
    assert [ids.tolist() for ids in samples.input_ids] == [[6], [3, 4, 5]]
    assert [ids.tolist() for ids in samples.completion_ids] == [[8, 2], [7]]
    assert samples.matured_at == (datetime(2023, 5, 1, tzinfo=UTC), datetime(2023, 4, 1, tzinfo=UTC))
    assert samples.take([1]).sample_id == ("c",)


@pytest.mark.parametrize("column", ["input_ids", "completion_ids"])
@pytest.mark.parametrize("empty", [[], None])
def test_a_sample_without_tokens_is_rejected_by_name(column: str, empty: list[int] | None) -> None:
    table = _table(**{column: pa.array([[3], empty], pa.list_(pa.int32()))})
    with pytest.raises(DataError, match="first b"):
        Samples.from_arrow(table)


def test_a_duplicate_key_is_rejected_by_name() -> None:
    with pytest.raises(DataError, match=r"not unique.*'a'"):
        Samples.from_arrow(_table(sample_id=["a", "a"]))


def test_a_missing_column_is_named() -> None:
    with pytest.raises(DataError, match="matured_at"):
        Samples.from_arrow(_table().drop_columns(["matured_at"]))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 50), min_size=0, max_size=60), st.integers(1, 200))
def test_budget_batches_contain_every_sample_once_and_respect_the_budget(lengths: list[int], budget: int) -> None:
    batches = token_budget_batches(lengths, budget)
    assert sorted(index for batch in batches for index in batch) == list(range(len(lengths)))
    for batch in batches:
        assert len(batch) == 1 or len(batch) * max(lengths[i] for i in batch) <= budget
    assert [lengths[i] for batch in batches for i in batch] == sorted(lengths)


def test_labels_are_the_completion_tokens_and_are_predicted_one_position_earlier() -> None:
    prompts = [np.array([5, 6, 7], np.int32), np.array([8], np.int32)]
    batch = labelled_batch(prompts, [np.array([9], np.int32), np.array([10, 11], np.int32)])
    assert batch.input_ids.tolist() == [[5, 6, 7, 9], [8, 10, 11, 0]]
    assert batch.attention_mask.tolist() == [[1, 1, 1, 1], [1, 1, 1, 0]]
    assert batch.label_rows.tolist() == [0, 1, 1]
    assert batch.label_positions.tolist() == [2, 0, 1]
    assert batch.label_targets.tolist() == [9, 10, 11]


@pytest.mark.parametrize("given_ids", [[7], [7, 2]])
def test_the_end_token_is_in_the_loss_exactly_when_it_counts(given_ids: list[int]) -> None:
    completion = np.array(given_ids, np.int32)
    assert answer_ids(completion, ends=(2,), count_eos=False).tolist() == [7]
    assert answer_ids(completion, ends=(2,), count_eos=True).tolist() == [7, 2]


def test_an_overlong_sample_is_rejected_by_name_and_never_truncated() -> None:
    samples = make_samples(6)
    sizes = [len(p) + len(c) for p, c in zip(samples.input_ids, samples.completion_ids, strict=True)]
    longest = samples.sample_id[int(np.argmax(sizes))]
    assert len(trainable(samples, ends=(2,), count_eos=False, context_length=max(sizes))) == 6
    with pytest.raises(DataError, match=longest):
        trainable(samples, ends=(2,), count_eos=False, context_length=max(sizes) - 1)
    with pytest.raises(DataError, match="context_length"):
        trainable(samples, ends=(2,), count_eos=True, context_length=max(sizes))
