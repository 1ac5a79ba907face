"""Scores for other settings from stored parts, and the tables for their review."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pandas as pd
import pytest

from tests.support.influence_oracle import Setting
from zigong.errors import ConfigError
from zigong.influence.compare import (
    checkpoint_agreement,
    comparison_tables,
    rank_correlation,
    sign_warnings,
    top_overlap,
)
from zigong.influence.diagnostics import CheckpointDiagnostics
from zigong.influence.recombine import recombinable, recombined
from zigong.influence.score import score_samples
from zigong.influence.target_sums import target_gradients
from zigong.influence.targets import TargetGradients
from zigong.recipe import Influence
from zigong.tokens.samples import Samples


def scored(setting: Setting, targets: Samples, settings: Influence) -> tuple[pd.DataFrame, TargetGradients]:
    gradients = target_gradients(setting.agent, targets, settings, business_timezone="UTC")
    table = score_samples(setting.agent, gradients, setting.samples, settings).to_pandas()
    table["stratum"] = setting.samples.label.astype(str)
    table["observation_date"] = setting.samples.observation_date
    return table, gradients


def assert_close(found: np.ndarray, expected: np.ndarray) -> None:
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6 * np.nanmax(np.abs(expected)))


@pytest.mark.parametrize("made", [Influence(pairs="all"), Influence(pairs="all", decay="sample", gamma=0.6)])
def test_parts_of_one_target_date_determine_every_decay_gamma_and_checkpoint_setting(
    plain: Setting, made: Influence
) -> None:
    one_date = plain.targets.take([i for i, day in enumerate(plain.targets.observation_date) if day.month == 9])
    stored, gradients = scored(plain, one_date, made)
    for decay, used, gamma in product(["checkpoint", "sample", "none"], ["all", "own"], [0.5, 1.0]):
        wanted = made.model_copy(update={"decay": decay, "checkpoints": used, "gamma": gamma})
        found = recombined(
            np.stack(stored["parts"].to_list()),
            list(stored["observation_date"]),
            made=made,
            wanted=wanted,
            target_dates=gradients.dates,
            manifest=plain.manifest,
        )
        expected, _ = scored(plain, one_date, wanted)
        assert_close(found.sum(1), expected["score"].to_numpy(dtype=float))


def test_with_several_target_dates_only_own_checkpoints_follow(plain: Setting) -> None:
    made = Influence(pairs="all")
    stored, gradients = scored(plain, plain.targets, made)
    common: dict[str, Any] = {"made": made, "target_dates": gradients.dates, "manifest": plain.manifest}
    parts, dates = np.stack(stored["parts"].to_list()), list(stored["observation_date"])
    own = made.model_copy(update={"checkpoints": "own"})
    expected, _ = scored(plain, plain.targets, own)
    found = recombined(parts, dates, wanted=own, **common).sum(1)
    assert_close(found, expected["score"].to_numpy(dtype=float))
    with pytest.raises(ConfigError, match="2 target dates do not determine"):
        recombined(parts, dates, wanted=made.model_copy(update={"gamma": 0.5}), **common)


@pytest.mark.parametrize(
    "change", [{"pairs": "later"}, {"scope": "user"}, {"normalise": "cosine"}, {"precondition": "adam"}]
)
def test_settings_that_need_new_gradients_do_not_follow_from_parts(plain: Setting, change: dict[str, str]) -> None:
    made = Influence(pairs="all")
    assert not recombinable(made, made.model_copy(update=change), plain.targets.observation_date[:1])
    assert not recombinable(made.model_copy(update={"checkpoints": "own"}), made, plain.targets.observation_date[:1])


def test_the_tables_contain_every_decay_both_checkpoint_settings_and_the_sweep(plain: Setting) -> None:
    one_date = plain.targets.take([i for i, day in enumerate(plain.targets.observation_date) if day.month == 9])
    settings = Influence(pairs="all")
    stored, gradients = scored(plain, one_date, settings)
    tables, _ = comparison_tables(stored, settings, targets=gradients, manifest=plain.manifest, top_share=0.3)
    sides = tables["influence_settings"].set_index(["decay", "checkpoints", "gamma"])
    assert {(d, u) for d, u, _ in sides.index} == {*product(["checkpoint", "sample", "none"], ["all", "own"])}
    assert {gamma for _, _, gamma in sides.index} == {0.5, 0.7, 0.8, 0.9, 0.95, 1.0}
    assert sides.loc[("checkpoint", "all", 0.9), "rank_correlation"] == pytest.approx(1)
    assert sides.loc[("checkpoint", "all", 0.9), "top_overlap"] == 1
    assert len(tables["influence_agreement"]) == 6  # three pairs of checkpoints, three of a checkpoint and the loss


def test_ranks_are_compared_within_class() -> None:
    strata = np.array(["main/0"] * 4 + ["main/1"] * 4)
    first = np.array([1.0, 2, 3, 4, 101, 102, 103, 104])
    second = np.array([104.0, 103, 102, 101, 4, 3, 2, 1])
    assert rank_correlation(first, second, strata) == pytest.approx(-1)
    assert rank_correlation(first, np.exp(first / 50), strata) == pytest.approx(1)
    assert (top_overlap(first, second, strata, 0.5), top_overlap(first, first, strata, 0.5)) == (0, 1)


def test_flipped_signs_are_reported() -> None:
    up = [float(i) for i in range(9)]
    frame = pd.DataFrame({"parts": [[a, -a, a + 1] for a in up], "loss": up, "stratum": ["main/0"] * 9})
    agreement = checkpoint_agreement(frame, ["p0", "p1", "p2"])
    trusted = CheckpointDiagnostics(checkpoint="p0", class_cosine=0.1, half_cosine=0.9)
    doubtful = CheckpointDiagnostics(checkpoint="p1", class_cosine=-0.97, half_cosine=-0.2)
    warnings = sign_warnings(agreement, (trusted, doubtful))
    assert [text.split(":")[0] for text in warnings] == [
        "signs flip between p0 and p1",
        "signs flip between p1 and p2",
        "halves of the target disagree at p1",
        "the class means oppose each other at p1 (-0.97)",
    ]
