"""Target gradients of workers: the same bits however many compute them, in whatever order."""

from __future__ import annotations

from collections import defaultdict
from datetime import date, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from safetensors.numpy import load_file

from tests.support.influence_oracle import adam_factors, naive_gradients
from tests.support.scored_lake import TARGETS, ScoredLake, make_scored_lake, merged_targets
from tests.support.tiny_models import make_samples
from zigong.dataset.samples import capped
from zigong.errors import DataError
from zigong.influence import target_groups
from zigong.influence.capture import open_agent
from zigong.influence.score import score_samples
from zigong.influence.target_file import TargetHeader, holds_sums_of, read_targets, write_targets
from zigong.influence.target_groups import TargetGroup
from zigong.influence.target_merge import group_totals
from zigong.influence.target_sums import target_gradients
from zigong.recipe import Influence
from zigong.training.checkpoints import read_checkpoints

AUGUST = date(2023, 8, 1)
Key = tuple[date, int, str | None]  # of the groups, without the halves
WAYS: tuple[dict[str, str], ...] = ({}, {"scope": "user", "normalise": "cosine", "precondition": "adam"})


@pytest.fixture(scope="module")
def plain_lake(tmp_path_factory: pytest.TempPathFactory) -> ScoredLake:
    return make_scored_lake(tmp_path_factory.mktemp("targets"), 14)


@pytest.fixture(params=WAYS, ids=lambda way: "-".join(way.values()) or "plain")
def lake(plain_lake: ScoredLake, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> ScoredLake:
    """Targets of two dates in shards of at most two, so that groups consist of several shards."""
    monkeypatch.setattr(target_groups, "SHARD_TARGETS", {"population": 2, "user": 2})
    settings = Influence.model_validate({"batch_tokens": 100, **request.param})
    return ScoredLake(folder=plain_lake.folder, samples=plain_lake.samples, settings=settings)


def test_merged_targets_have_the_same_bytes_for_any_number_and_order_of_workers(
    lake: ScoredLake, tmp_path: Path
) -> None:
    shards = lake.target_shards()
    assert len(shards) == 2 * (3 + 2)
    reference = merged_targets(lake, shards, tmp_path / "reference").read_bytes()
    for workers in (1, 2, 3):
        order = np.random.default_rng(workers).permutation(len(shards))
        shuffled = [shards[index] for index in order]
        assert merged_targets(lake, shuffled, tmp_path / str(workers), workers=workers).read_bytes() == reference


def test_merged_targets_are_the_sums_of_the_naive_gradients(lake: ScoredLake, tmp_path: Path) -> None:
    found = read_targets(merged_targets(lake, lake.target_shards(), tmp_path / "stage"))
    manifest = read_checkpoints(lake.folder / "agent")
    users = TARGETS.user_id if lake.settings.scope == "user" else (None,) * len(TARGETS)
    for checkpoint, matrices in zip(manifest.checkpoints, found.sums, strict=True):
        expected = defaultdict[Key, list[torch.Tensor]](list)
        rows = naive_rows(lake, manifest.folder / checkpoint.adapter)
        for key in zip(TARGETS.observation_date, TARGETS.label.tolist(), users, strict=True):
            expected[key].append(rows.pop(0))
        flat = torch.cat([part.flatten(1) for pair in matrices for part in pair], 1)
        ours = defaultdict[Key, list[torch.Tensor]](list)
        for group, row in zip(found.groups, flat.double(), strict=True):  # of both halves
            ours[group.observation_date, group.label, group.user_id].append(row)
        assert ours.keys() == expected.keys()
        for key, naive in expected.items():
            total = torch.stack(naive).sum(0)
            torch.testing.assert_close(
                torch.stack(ours[key]).sum(0), total, rtol=1e-5, atol=1e-5 * float(total.abs().max())
            )


def naive_rows(lake: ScoredLake, adapter: Path) -> list[torch.Tensor]:
    """The targets' gradients, preconditioned and scaled as the settings say."""
    rows = naive_gradients(lake.folder / "base", adapter, TARGETS)
    if lake.settings.precondition == "adam":
        rows = [row * adam_factors(lake.folder / "base", adapter) for row in rows]
    return [row / row.norm() for row in rows] if lake.settings.normalise == "cosine" else rows


def test_scores_against_merged_targets_equal_those_against_the_sums_of_one_process(
    lake: ScoredLake, tmp_path: Path
) -> None:
    merged = read_targets(merged_targets(lake, lake.target_shards(), tmp_path / "stage"))
    agent = open_agent(lake.folder / "base", read_checkpoints(lake.folder / "agent"), torch_threads=1)
    alone = target_gradients(agent, TARGETS, lake.settings, business_timezone="UTC")
    assert (merged.fingerprint, merged.target_ids, merged.names) == (alone.fingerprint, alone.target_ids, alone.names)
    assert merged.groups == alone.groups
    one, other = (score_samples(agent, found, lake.samples, lake.settings)["score"] for found in (merged, alone))
    np.testing.assert_allclose(one.to_numpy(), other.to_numpy(), rtol=1e-5, atol=1e-6 * np.abs(other.to_numpy()).max())


def test_shards_of_targets_depend_on_the_targets_alone(lake: ScoredLake) -> None:
    targets = lake.source.members(["target"])
    shards = target_groups.target_shards(targets, "population", 2)
    shuffled = targets.take(pa.array(np.random.default_rng(1).permutation(len(targets))))
    assert target_groups.target_shards(shuffled, "population", 2) == shards
    dates = dict(zip(TARGETS.sample_id, TARGETS.observation_date, strict=True))
    for checkpoint in (0, 1):
        parts = [shard["only"] for shard in shards if shard["checkpoint"] == checkpoint]
        assert sorted(key for part in parts for key in part) == sorted(TARGETS.sample_id)
        assert all(1 <= len(part) <= 2 and len({dates[key] for key in part}) == 1 for part in parts)


def sums_of(count: int, value: float) -> pa.Table:
    """A shard with ``count`` targets of the only group."""
    sums = pa.FixedShapeTensorArray.from_numpy_ndarray(np.full((1, 2, 3), value))
    return pa.table({"group": ["2023-08-01|1|0|"], "count": [count], "q/A": sums})


def test_shards_are_added_in_double_precision_and_rounded_once() -> None:
    group = TargetGroup(observation_date=AUGUST, observation_at=datetime(2023, 8, 1), label=1, half=0, count=6)
    tables = [sums_of(2, 1.0), sums_of(1, 2.0**-30), sums_of(3, -1.0)]
    ((name, total),) = group_totals(tables, {"2023-08-01|1|0|": group})
    assert (name, total.tolist()) == ("2023-08-01|1|0|", [2.0**-30] * 6)
    assert total.dtype == np.float32


@pytest.mark.parametrize("counts", [(2, 1), (2, 4, 2), (2, 5)])
def test_a_merge_that_has_not_each_target_once_is_rejected(counts: tuple[int, ...]) -> None:
    group = TargetGroup(observation_date=AUGUST, observation_at=datetime(2023, 8, 1), label=1, half=0, count=6)
    with pytest.raises(DataError, match=f"expected 6 targets, found {sum(counts)}"):
        list(group_totals([sums_of(count, 1.0) for count in counts], {"2023-08-01|1|0|": group}))


def test_a_file_is_reused_only_for_the_inputs_of_its_sums(plain_lake: ScoredLake, tmp_path: Path) -> None:
    file = tmp_path / "targets.safetensors"
    assert not holds_sums_of(file, "inputs")
    header = plain_lake.target_header
    rows = ((c, g, np.zeros(2, np.float32)) for g in range(len(header.groups)) for c in range(header.checkpoints))
    write_targets(file, header, {"q/A": (1, 1), "q/B": (1, 1)}, rows)
    assert holds_sums_of(file, "inputs")
    assert not holds_sums_of(file, "other inputs")


def test_sums_stay_in_the_file_when_they_are_read(plain_lake: ScoredLake, tmp_path: Path) -> None:
    header: TargetHeader = plain_lake.target_header
    width, count = 2**20, len(header.groups)
    rows = ((c, g, np.full(width, 10 * c + g, np.float32)) for g in range(count) for c in range(header.checkpoints))
    file, shapes = tmp_path / "large.safetensors", {"q/A": (4, width // 8), "q/B": (width // 8, 4)}
    write_targets(file, header, shapes, rows)
    assert {name: tensor.shape for name, tensor in load_file(file).items()} == {
        "0": (count, width),
        "1": (count, width),
    }
    before = _own_memory()
    found = read_targets(file)
    totals = [float(part[1].sum() / part[1].numel()) for sums in found.sums for pair in sums for part in pair]
    assert totals == [1.0, 1.0, 11.0, 11.0]
    assert _own_memory() - before < 2**22


def _own_memory() -> int:
    """Bytes of this process that no file backs."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("RssAnon"))


def test_targets_are_capped_by_user_whatever_their_order() -> None:
    targets = make_samples(40, prefix="z")
    table = pa.table({"sample_id": list(targets.sample_id), "user_id": list(targets.user_id)})
    chosen = capped(table, 15)
    assert 0 < len(chosen) <= 15
    sizes = {user: targets.user_id.count(user) for user in set(chosen["user_id"].to_pylist())}
    assert {user: chosen["user_id"].to_pylist().count(user) for user in sizes} == sizes
    again = capped(table.take(pa.array(range(39, -1, -1))), 15)
    assert set(again["sample_id"].to_pylist()) == set(chosen["sample_id"].to_pylist())
