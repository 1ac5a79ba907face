"""Reused scores together with computed ones equal scores that are all computed, bit for bit."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from tests.support.scored_lake import ScoredLake, make_scored_lake, with_other_text, with_settings, write_samples
from zigong.dataset.samples import partition_shards
from zigong.influence.rescoring import taken_over, with_input_hash, without
from zigong.influence.worker import InfluenceWorker
from zigong.recipe import Influence

SIZE = 40


WAYS: tuple[dict[str, str], ...] = (
    {},
    {"normalise": "cosine"},
    {"scope": "user"},
    {"scope": "user", "normalise": "cosine", "precondition": "adam"},
)


@pytest.fixture(scope="module")
def plain_lake(tmp_path_factory: pytest.TempPathFactory) -> ScoredLake:
    return make_scored_lake(tmp_path_factory.mktemp("rescoring"), SIZE)


@pytest.fixture(params=WAYS, ids=lambda way: "-".join(way.values()) or "plain")
def lake(plain_lake: ScoredLake, request: pytest.FixtureRequest) -> ScoredLake:
    """The lakehouse with each scoring engine."""
    unchanged = write_samples(plain_lake.folder, plain_lake.samples)
    return with_settings(unchanged, Influence.model_validate({"batch_tokens": 500, **request.param}))


def scored(lake: ScoredLake, members: pa.Table) -> pa.Table:
    """Scores of the given members, computed by shard, with their input hashes."""
    worker = InfluenceWorker(**lake.arguments())
    shards = [{**shard, "only": members["sample_id"].to_pylist()} for shard in partition_shards(members)]
    rows = pa.concat_tables([worker(shard) for shard in shards]).sort_by("sample_id")
    return rows.append_column("input_hash", members["input_hash"])


def test_rescoring_computes_what_changed_and_equals_full_scoring_bit_for_bit(lake: ScoredLake) -> None:
    before = with_input_hash(lake.members)
    former = scored(lake, before)
    changed = {"s003", "s017", "s030"}
    later = with_other_text(lake, changed)
    members = with_input_hash(later.members)
    known = taken_over(members, former)
    wanted = without(members, known)
    assert set(wanted["sample_id"].to_pylist()) == changed
    merged = pa.concat_tables([known, scored(later, wanted)]).sort_by("sample_id")
    assert merged.equals(scored(later, members))
    moved = pc.invert(pc.is_in(merged["score"], former["score"].combine_chunks()))
    assert set(merged.filter(moved)["sample_id"].to_pylist()) == changed


def test_each_sample_scored_alone_has_the_same_bits_as_among_the_others(lake: ScoredLake) -> None:
    members = with_input_hash(lake.members)
    together = scored(lake, members)
    order = np.random.default_rng(2).permutation(SIZE)
    for key in [members["sample_id"][int(index)] for index in order[:8]]:
        alone = scored(lake, members.filter(pc.equal(members["sample_id"], key)))
        assert alone.equals(together.filter(pc.equal(together["sample_id"], key)))


@pytest.mark.parametrize("column", ["text_hash", "completion_ids", "observation_date", "matured_at"])
def test_every_input_of_a_score_changes_the_input_hash(plain_lake: ScoredLake, column: str) -> None:
    members = plain_lake.members
    other = members[column].take(pa.array(np.roll(np.arange(SIZE), 1)))
    place = members.column_names.index(column)
    moved = with_input_hash(members.set_column(place, column, other))["input_hash"].to_pylist()
    known = with_input_hash(members)["input_hash"].to_pylist()
    same = [left == right for left, right in zip(members[column].to_pylist(), other.to_pylist(), strict=True)]
    assert [left == right for left, right in zip(moved, known, strict=True)] == same
    assert not all(same)


def test_a_former_score_is_reused_once_and_only_for_the_same_input() -> None:
    former = pa.table({"sample_id": ["a", "b", "b", "c"], "input_hash": ["1", "2", "2", "3"], "score": [1.0, 2, 2, 3]})
    members = pa.table({"sample_id": ["a", "b", "c", "d"], "input_hash": ["1", "2", "9", "4"]})
    known = taken_over(members, former)
    assert known["sample_id"].to_pylist() == ["a", "b"]
    assert without(members, known)["sample_id"].to_pylist() == ["c", "d"]
