"""The samples of a training are written cell by cell, in an order that only the cells determine."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import pytest

from tests.support.scored_lake import ScoredLake, make_scored_lake, write_samples
from zigong.errors import DataError
from zigong.tokens.columns import mapped_table


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> ScoredLake:
    return make_scored_lake(tmp_path_factory.mktemp("cells"), 40)


def test_the_file_has_the_members_with_their_prompts_by_cell(lake: ScoredLake, tmp_path: Path) -> None:
    members, file = lake.source.members(["train"]), tmp_path / "a.arrow"
    lake.source.write_prompts(members, file)
    found = mapped_table(file)
    keys = [(row["observation_date"], row["user_bucket"], row["sample_id"]) for row in found.to_pylist()]
    assert keys == sorted(keys)
    assert len({key[:2] for key in keys}) > 4
    assert found.sort_by("sample_id").to_pylist() == lake.source.with_prompts(members).to_pylist()
    assert found["input_ids"].num_chunks == len({key[:2] for key in keys})  # no cell was added to another

    lake.source.write_prompts(members.take(np.random.default_rng(1).permutation(len(members))), tmp_path / "b.arrow")
    assert (tmp_path / "b.arrow").read_bytes() == file.read_bytes()


def test_only_one_cell_is_read_at_a_time(lake: ScoredLake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []
    whole = lake.source.members(["train"])
    joined = type(lake.source)._joined

    def counted(self: object, members: pa.Table, samples: ds.Dataset, columns: tuple[str, ...]) -> pa.Table:
        read.append(len(members))
        return joined(lake.source, members, samples, columns)

    monkeypatch.setattr(type(lake.source), "_joined", counted)
    lake.source.write_prompts(whole, tmp_path / "a.arrow")
    assert sum(read) == len(whole)
    assert max(read) < len(whole) / 3


def test_a_member_without_a_prompt_is_named(lake: ScoredLake, tmp_path: Path) -> None:
    members = lake.source.members(["train"])
    missing = members["sample_id"][7].as_py()
    kept = [index for index, key in enumerate(lake.samples.sample_id) if key != missing]
    fewer = write_samples(lake.folder, lake.samples.take(kept))
    with pytest.raises(DataError, match=f"1 members of d have no instruction sample, first {missing}"):
        fewer.source.write_prompts(members, tmp_path / "a.arrow")
