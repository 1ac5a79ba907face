"""Reasons of the scores of a finished run: whose they are, that their effects are those of removal, and their worth."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from deltalake import DeltaTable

from tests.support.finished import FinishedRun
from zigong.dataset.samples import PROMPT_KEYS
from zigong.evaluation.calibration import log_odds
from zigong.evaluation.reasons import COLUMNS, Explained, OpenedCard
from zigong.evaluation.removal import removals, without_events
from zigong.features.event_arrays import row_of_items
from zigong.release.serving import fused_part, published_sequences, required_champion
from zigong.runs.job import Job


@dataclass(frozen=True, kw_only=True)
class Scored:
    """The scores of a run, the riskiest first, with their sequences in the same order, and the card."""

    scores: pd.DataFrame
    sequences: pa.Table
    card: OpenedCard

    @property
    def explained(self) -> pd.DataFrame:
        return self.scores[self.scores["reasons"].notna()]


@pytest.fixture(scope="module")
def scored(tiny_run: FinishedRun) -> Scored:
    """Only the explained clients have sequences."""
    table = DeltaTable(str(tiny_run.paths.table("behavior_card_scores"))).to_pyarrow_table()
    scores = table.to_pandas().sort_values("p_bad", ascending=False, kind="stable").reset_index(drop=True)
    job = Job(step="test", run=tiny_run.run, paths=tiny_run.paths)
    serving, sequences = required_champion(tiny_run.run.recipe), published_sequences(job)
    prompts = serving.model.asked.prompts
    explained = Explained(
        asked=serving.model.asked,
        folders=serving.folders,
        calibration=serving.model.calibration,
        fused=fused_part(serving, sequences),
        sequences=sequences,
        most=4,
    )
    keys = pa.Table.from_pandas(scores[scores["reasons"].notna()].assign(sample_id=""), preserve_index=False)
    found = [
        sequences.read({"observation_date": scores["observation_date"][0].isoformat(), "user_bucket": bucket}, COLUMNS)
        for bucket in range(tiny_run.run.recipe.lakehouse.user_buckets)
    ]
    every = sequences.under(pa.concat_tables(found), prompts)
    places = pd.Index(every["user_id"].to_pylist()).get_indexer(keys.select(PROMPT_KEYS)["user_id"].to_pylist())
    return Scored(
        scores=scores,
        sequences=every.take(pa.array(places)),
        card=OpenedCard(explained, engine="samples", batch_tokens=4096),
    )


def test_the_riskiest_tenth_has_reasons_the_strongest_first(scored: Scored) -> None:
    wanted = math.ceil(0.1 * len(scored.scores))
    assert scored.scores["reasons"].notna().tolist() == [True] * wanted + [False] * (len(scored.scores) - wanted)
    for reasons in scored.explained["reasons"]:
        effects = [abs(reason["effect"]) for reason in reasons]
        assert 1 <= len(reasons) <= 4
        assert effects == sorted(effects, reverse=True)
        assert len({reason["reason"] for reason in reasons}) == len(reasons)


def test_an_effect_is_the_published_score_minus_that_without_the_group(scored: Scored) -> None:
    published = log_odds(scored.explained["p_bad"].to_numpy())
    np.testing.assert_allclose(scored.card.log_odds(scored.sequences), published, atol=1e-4)
    named = 0
    for removal in removals(scored.sequences):
        without = scored.card.log_odds(removal.sequences)
        for row, rest in zip(removal.rows, without, strict=True):
            stated = {reason["reason"]: reason["effect"] for reason in scored.explained["reasons"].iloc[row]}
            if removal.group in stated:
                named += 1
                assert stated[removal.group] == pytest.approx(published[row] - rest, abs=1e-4)
    assert named == sum(len(reasons) for reasons in scored.explained["reasons"])


def test_removing_the_strongest_group_moves_a_score_more_than_removing_as_many_events_at_random(
    scored: Scored,
) -> None:
    rng, complete = np.random.default_rng(1), log_odds(scored.explained["p_bad"].to_numpy())
    rows, kinds = row_of_items(scored.sequences["events"]), {}
    for removal in removals(scored.sequences):
        for row, left in zip(removal.rows, removal.sequences["counts"].to_pylist(), strict=True):
            kinds[row, removal.group] = scored.sequences["counts"][int(row)].as_py()["kept"] - left["kept"]
    at_random, strongest = np.zeros(len(rows), dtype=bool), np.zeros(len(complete))
    for row, reasons in enumerate(scored.explained["reasons"]):
        of_events = [reason for reason in reasons if not reason["reason"].startswith("profile:")]
        if of_events:
            strongest[row] = abs(of_events[0]["effect"])
            at_random[rng.choice(np.flatnonzero(rows == row), kinds[row, of_events[0]["reason"]], replace=False)] = True
    moved = np.abs(complete - scored.card.log_odds(without_events(scored.sequences, at_random)))
    assert (strongest > 0).sum() >= len(complete) / 2
    assert strongest.mean() > 1.2 * moved.mean()
