from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from zigong.errors import DataError
from zigong.evaluation import metrics
from zigong.evaluation.boosting import Labelled
from zigong.evaluation.boosting_teacher import out_of_fold

PERSONS = [f"p{index // 3}" for index in range(900)]  # three samples each


def _train(labels: np.ndarray | None = None) -> Labelled:
    rng = np.random.default_rng(1)
    features = pd.DataFrame({"count_late_6m": rng.random(900), "gap_days": rng.random(900)})
    risky = rng.random(900) < 0.1 + 0.7 * (features["count_late_6m"] > 0.6).to_numpy()
    return Labelled(features=features, bad=risky if labels is None else labels)


def _answers(train: Labelled) -> np.ndarray:
    return out_of_fold(train, PERSONS, folds=5, seed=3)


def test_the_labels_of_a_person_change_no_answer_about_it_but_those_about_others() -> None:
    train = _train()
    before = _answers(train)
    changed_others = 0
    for person in ("p0", "p7", "p100"):
        own = np.array([name == person for name in PERSONS])
        after = _answers(Labelled(features=train.features, bad=np.where(own, ~train.bad, train.bad)))
        np.testing.assert_array_equal(after[own], before[own])
        changed_others += int((after != before).sum())
    assert changed_others > 0


def test_all_samples_of_a_person_are_in_one_fold() -> None:
    """A feature that names the person, with labels by person: a teacher that saw the person would know them."""
    rng = np.random.default_rng(2)
    codes = np.array([int(name[1:]) for name in PERSONS])
    labels = (rng.random(300) < 0.4)[codes]
    named = pd.DataFrame({f"person_{bit}": (codes >> bit) & 1 for bit in range(9)})
    p_bad = _answers(Labelled(features=named, bad=labels))
    assert metrics.auc(labels.astype(int), p_bad) < 0.65


def test_every_sample_is_answered_and_the_cause_is_found() -> None:
    train = _train()
    p_bad = _answers(train)
    assert ((p_bad > 0) & (p_bad < 1)).all()
    assert metrics.auc(train.bad.astype(int), p_bad) > 0.75
    np.testing.assert_array_equal(p_bad, _answers(train))


def test_a_teacher_of_one_class_is_refused() -> None:
    with pytest.raises(DataError, match="found 0 bad of"):
        _answers(_train(np.zeros(900, dtype=bool)))


def test_samples_without_a_label_are_answered_out_of_fold_and_teach_nothing() -> None:
    train = _train()
    known = np.arange(900) % 3 != 0  # the first sample of each person has no label
    labelled = Labelled(features=train.features[known], bad=train.bad[known])
    expected = out_of_fold(labelled, [PERSONS[i] for i in np.flatnonzero(known)], folds=5, seed=3)
    for guess in (train.bad, np.where(known, train.bad, ~train.bad)):
        found = out_of_fold(Labelled(features=train.features, bad=guess), PERSONS, folds=5, seed=3, known=known)
        np.testing.assert_array_equal(found[known], expected)
        assert metrics.auc(train.bad[~known].astype(int), found[~known]) > 0.75
