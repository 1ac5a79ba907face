"""A model is compared with its base; a neutral adapter answers as the base does."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
from transformers import PreTrainedModel

from tests.support.tiny_models import LORA, make_base
from zigong.evaluation.answers import answer_prompts
from zigong.evaluation.unadapted import largest_bucket, largest_change
from zigong.training.adapters import load_adapted, new_adapter, save_adapter, save_neutral_adapter, trained_weights
from zigong.training.base import load_model

PROMPTS = [np.arange(3, 3 + size, dtype=np.int32) for size in (2, 5, 9)]


def answers(model: PreTrainedModel) -> pa.Table:
    return answer_prompts(model, ["a", "b", "c"], PROMPTS, [[4], [5]], batch_tokens=64)


def test_a_neutral_adapter_answers_exactly_as_the_base_and_a_trained_one_does_not(tmp_path: Path) -> None:
    base = make_base(tmp_path / "base")
    adapted = new_adapter(base, LORA, seed=1)
    for item in trained_weights(adapted).values():
        item.data += 0.1
    save_adapter(adapted, tmp_path / "trained")
    save_neutral_adapter(tmp_path / "trained", tmp_path / "neutral")
    plain = answers(load_model(base).eval())
    neutral, trained = (
        answers(load_adapted(base, tmp_path / name).get_base_model()) for name in ("neutral", "trained")
    )
    assert largest_change(neutral, plain) == 0.0
    change = np.abs(trained["p_bad"].to_numpy() - plain["p_bad"].to_numpy()).max()
    assert largest_change(trained, plain) == change > 1e-3


def test_the_compared_samples_are_those_of_the_largest_bucket_whatever_their_order() -> None:
    members = pa.table({"sample_id": ["a", "b", "c"], "user_bucket": pa.array([3, 0, 3], pa.int32())})
    sample = largest_bucket(members)
    assert sample["sample_id"].to_pylist() == ["a", "c"]
    own = pa.table({"sample_id": ["c", "b", "a"], "p_bad": [0.5, 0.9, 0.1]})
    base = pa.table({"sample_id": ["a", "c"], "p_bad": [0.1, 0.3]})
    assert largest_change(own, base) == 0.2
