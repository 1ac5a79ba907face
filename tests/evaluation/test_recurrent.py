"""The GRU baseline reads tokens in order, and shares the states of a user's common history without changing them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from tests.support.tiny_trees import monthly_user, ragged_user
from zigong.evaluation.recurrent import Recurrent, fit_recurrent, recurrent_answers
from zigong.tokens.samples import Samples

A, B, OTHER, QUESTION, ANSWER = 3, 4, 5, 6, 7


def joined(parts: list[Samples]) -> Samples:
    names = ("sample_id", "user_id", "observation_date", "matured_at", "input_ids", "completion_ids")
    columns = {name: tuple(value for part in parts for value in getattr(part, name)) for name in names}
    return Samples(**columns, label=np.concatenate([part.label for part in parts]))


def ordered(count: int, *, seed: int) -> Samples:
    """Users whose label depends on which of two tokens came last, among noise; both occur equally often."""
    generator = np.random.default_rng(seed)
    parts = []
    for number in range(count):
        bad = number % 2
        tokens = generator.permutation([A, A, B, B, *[OTHER] * 6])
        places = np.flatnonzero(tokens != OTHER)
        tokens[places[-1]], tokens[places[:-1]] = (A if bad else B), generator.permutation([A, B, B if bad else A])
        one = monthly_user(f"{seed}-{number}", seed=0, months=1, points=1)
        ids = (np.array([*tokens, QUESTION], dtype=np.int32),)
        parts.append(replace(one, input_ids=ids, completion_ids=(np.array([ANSWER]),), label=np.array([bad])))
    return joined(parts)


def test_shared_states_give_the_answers_of_separate_prompts() -> None:
    users = [monthly_user(f"m{seed}", seed=seed, months=6, points=4) for seed in range(5)]
    samples = joined([*users, *(ragged_user(f"r{seed}", seed=seed) for seed in range(5))])
    torch.manual_seed(3)
    model = Recurrent(1 + max(int(ids.max()) for ids in samples.input_ids)).eval()
    with torch.inference_mode():
        alone = []
        for ids in samples.input_ids:
            states, _ = model.gru(model.embedding(torch.from_numpy(ids.astype(np.int64))[None]))
            alone.append(float(torch.sigmoid(model.head(states[0, -1]))))
    np.testing.assert_allclose(recurrent_answers(model, samples), alone, rtol=1e-5)


def test_it_learns_an_order_that_counts_do_not_show_and_its_seed_decides() -> None:
    train, stop, held_out = ordered(600, seed=1), ordered(200, seed=2), ordered(200, seed=3)
    found = recurrent_answers(fit_recurrent(train, stop, epochs=25, seed=5), held_out)
    assert roc_auc_score(held_out.label, found) > 0.9
    few = [recurrent_answers(fit_recurrent(train, stop, epochs=1, seed=seed), held_out) for seed in (5, 5, 6)]
    np.testing.assert_array_equal(few[0], few[1])
    assert np.abs(few[0] - few[2]).max() > 1e-4


def test_a_token_beyond_the_vocabulary_is_answered() -> None:
    train, stop = ordered(20, seed=1), ordered(10, seed=2)
    model = fit_recurrent(train, stop, epochs=1, seed=5)
    strange = replace(stop, input_ids=tuple(np.append(ids, 900).astype(np.int32) for ids in stop.input_ids))
    assert recurrent_answers(model, strange) == pytest.approx(recurrent_answers(model, strange))
    assert np.isfinite(recurrent_answers(model, strange)).all()
