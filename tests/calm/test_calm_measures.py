"""Stored answers of the CALM benchmark and their figures."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import f1_score, roc_auc_score

from zigong.calm.answers import Answers, read_answers, write_answers
from zigong.calm.measures import Outcome, figures, figures_of_seeds, resampled_figures
from zigong.calm.task_files import load_task
from zigong.errors import ConfigError, DataError


def stored(file: Path, counts: dict[tuple[str, str], int]) -> Path:
    """A file with so many answers of each truth and text."""
    rows = [{"truth": truth, "logit": text} for (truth, text), count in counts.items() for _ in range(count)]
    file.write_text(json.dumps(rows), "utf-8")
    return file


# Counts that give the published figures of CALM-7B. Those of ccFraud and Travel are not unique.
PUBLISHED = {
    "german": (
        {
            ("good", "Good."): 101,
            ("good", " bad\n"): 31,
            ("bad", "The risk is good"): 56,
            ("bad", "BAD"): 12,
        },
        (0.565, 0.535, -0.067),
    ),
    "ccfraud": (
        {("no", "No"): 116, ("no", "yes"): 1009, ("yes", "no"): 11, ("yes", "Yes"): 962},
        (0.514, 0.402, 0.192),
    ),
    "travel_insurance": (
        {("no", "no"): 2346, ("no", "yes"): 30, ("yes", "no"): 150, ("yes", "yes"): 8},
        (0.929, 0.908, 0.076),
    ),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_stored_answers_give_the_published_accuracy_weighted_f1_and_mcc(name: str, tmp_path: Path) -> None:
    counts, expected = PUBLISHED[name]
    found = figures(Outcome.of(read_answers(stored(tmp_path / "a.json", counts)), load_task(name)))
    assert tuple(round(found[measure], 3) for measure in ("accuracy", "f1", "mcc")) == expected
    assert found["miss"] == 0
    assert "auc" not in found


def test_the_papers_f1_of_german_is_that_of_swapped_arguments(tmp_path: Path) -> None:
    outcome = Outcome.of(read_answers(stored(tmp_path / "a.json", PUBLISHED["german"][0])), load_task("german"))
    swapped = f1_score(outcome.given, outcome.expected, average="weighted")
    assert round(float(swapped), 3) == 0.595


def test_the_first_listed_choice_in_the_text_counts_and_a_miss_is_wrong() -> None:
    texts = ("bad, not good", "neither", "", "GOODNESS", "bad")
    answers = Answers(truth=("bad", "bad", "good", "good", "bad"), logit=texts)
    assert answers.given(["good", "bad"]).tolist() == [0, 2, 2, 0, 1]
    found = figures(Outcome.of(answers, load_task("german")))
    assert found["accuracy"] == pytest.approx(2 / 5)
    assert found["miss"] == pytest.approx(2 / 5)
    # good: 1 of 2 found, 1 of 2 called right; bad: 1 of 3 found, 1 of 1 called right
    assert found["f1"] == pytest.approx((2 * 0.5 + 3 * 0.5) / 5)
    assert found["macro_f1"] == pytest.approx(0.5)


def test_probabilities_give_auc_and_ks_of_the_bad_choice(tmp_path: Path) -> None:
    generator = np.random.default_rng(3)
    bad = generator.random(80) < 0.3
    p_bad = np.round(np.clip(0.3 * bad + generator.random(80) * 0.7, 0, 1), 2)
    truth = tuple(np.where(bad, "bad", "good").tolist())
    write_answers(tmp_path / "a.json", Answers(truth=truth, logit=("good",) * 80, p_bad=tuple(p_bad.tolist())))
    found = figures(Outcome.of(read_answers(tmp_path / "a.json"), load_task("german")))
    assert found["auc"] == pytest.approx(roc_auc_score(bad, p_bad))
    assert found["ks"] == pytest.approx(
        max(abs(np.mean(p_bad[bad] >= cut) - np.mean(p_bad[~bad] >= cut)) for cut in p_bad)
    )
    assert found["mcc"] == 0


def test_the_figures_of_seeds_are_means_and_lie_within_their_intervals() -> None:
    task, generator = load_task("german"), np.random.default_rng(1)
    truth = tuple(np.where(generator.random(100) < 0.3, "bad", "good").tolist())
    seeds = [
        Outcome.of(Answers(truth=truth, logit=tuple(generator.choice(["good", "bad", "?"], 100).tolist())), task)
        for _ in range(2)
    ]
    found = figures_of_seeds(seeds, seed=5)
    for name, interval in found.items():
        assert interval.value == pytest.approx(np.mean([figures(one)[name] for one in seeds]))
        assert interval.low < interval.value < interval.high
    assert found == figures_of_seeds(seeds, seed=5)
    with pytest.raises(DataError, match="different records"):
        figures_of_seeds([seeds[0], replace(seeds[0], expected=1 - seeds[0].expected)], seed=5)


@pytest.mark.parametrize("seed", range(4))
def test_the_figures_of_a_resample_are_scikit_learns_on_its_records(seed: int) -> None:
    generator = np.random.default_rng(seed)
    expected, given = generator.integers(2, size=30), generator.integers(2 + seed % 2, size=30)
    outcome = Outcome(expected=expected, given=given, bad=1, choices=2, p_bad=np.round(generator.random(30), 1))
    weights = np.stack([np.ones(30, dtype=np.int64), generator.integers(3, size=30), np.eye(30, dtype=np.int64)[0] * 4])
    found = resampled_figures(outcome, weights)
    assert np.isnan(found["auc"][2])
    for number, one in enumerate(weights):
        rows = np.repeat(np.arange(30), one)
        drawn = replace(outcome, expected=expected[rows], given=given[rows], p_bad=np.asarray(outcome.p_bad)[rows])
        for name, value in figures(drawn).items():
            assert found[name][number] == pytest.approx(value, abs=1e-12)


@pytest.mark.parametrize(
    ("content", "error", "reason"),
    [
        ("{}", ConfigError, "JSON list"),
        ("[]", ConfigError, "JSON list"),
        ("[1,", ConfigError, "not JSON"),
        ('[{"truth": "good"}]', DataError, "item 0"),
        ('[{"truth": "good", "logit": 1}]', DataError, "item 0"),
        ('[{"truth": "good", "logit": "a", "p_bad": 0.1}, {"truth": "bad", "logit": "a"}]', DataError, "1 of 2"),
    ],
)
def test_a_file_of_another_form_is_refused(content: str, error: type[Exception], reason: str, tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    file.write_text(content, "utf-8")
    with pytest.raises(error, match=reason):
        read_answers(file)


def test_absent_answers_and_truths_of_another_task_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="does not exist"):
        read_answers(tmp_path / "none.json")
    with pytest.raises(DataError, match="1 of 2 are others"):
        Outcome.of(Answers(truth=("good", "yes"), logit=("good", "good")), load_task("german"))
