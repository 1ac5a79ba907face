"""Reuses published scores that are still valid, so that only the others are computed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from zigong.influence.score import SCORES
from zigong.lakehouse.paths import LakehousePaths
from zigong.lakehouse.tables import arrow_pinned

PUBLISHED_SCORES = pa.schema([*SCORES, ("input_hash", pa.string())])
CRASHED = "scorer_crashed"  # reason of a sample that ends the process that scores it
HASHED = ("text_hash", "completion_ids", "observation_date", "matured_at")


def with_input_hash(samples: pa.Table) -> pa.Table:
    """Adds ``input_hash``, the SHA-256 of all inputs of a sample's score except the scorer.

    Args:
        samples: sample_id and the columns of ``HASHED``; ``text_hash`` represents the token ids of the prompt, since
            sample_id depends on the tokenizer.
    """
    rows = zip(*(samples[name].to_pylist() for name in HASHED), strict=True)
    hashes = [hashlib.sha256("|".join(map(str, row)).encode()).hexdigest() for row in rows]
    return samples.append_column("input_hash", pa.array(hashes, pa.string()))


def identities(samples: pa.Table) -> list[str]:
    """sample_id and input_hash of each sample as one text: its key and its contents."""
    return [
        f"{key}:{digest}"
        for key, digest in zip(samples["sample_id"].to_pylist(), samples["input_hash"].to_pylist(), strict=True)
    ]


def former_scores(paths: LakehousePaths, version: int | None, scorer_id: str) -> pa.Table:
    """Scores that former runs of the same scorer published, in the columns of ``PUBLISHED_SCORES``.

    Args:
        version: version of influence_scores; None: no score is reused.
    """
    if version is None:
        return PUBLISHED_SCORES.empty_table()
    same = ds.field("scorer_id") == scorer_id
    found = arrow_pinned(paths, "influence_scores", version, columns=PUBLISHED_SCORES.names, where=same)
    return found.cast(PUBLISHED_SCORES)


def taken_over(members: pa.Table, former: pa.Table) -> pa.Table:
    """The former scores that are valid for the current members, one per sample, sorted by sample_id.

    Args:
        members: sample_id and input_hash of the samples that need a score.
        former: published scores of the same scorer, of any dataset.
    """
    wanted = pa.array(identities(members), pa.string())
    known = former.sort_by("sample_id")
    valid = known.filter(pc.is_in(pa.array(identities(known), pa.string()), wanted))
    keys = valid["sample_id"].to_pylist()
    return valid.take(pa.array([i for i, key in enumerate(keys) if i == 0 or key != keys[i - 1]], pa.int64()))


def without(members: pa.Table, scored: pa.Table) -> pa.Table:
    """The members whose scores must be computed."""
    return members.filter(pc.invert(pc.is_in(members["sample_id"], scored["sample_id"].combine_chunks())))


@dataclass(frozen=True, kw_only=True)
class ScoredSamples:
    """Reused and computed scores of the samples of a dataset.

    Attributes:
        reused: former scores that are still valid, in the columns of ``PUBLISHED_SCORES``.
        computed: scores of this run.
        wanted: the samples that had to be scored, with their input_hash.
    """

    reused: pa.Table
    computed: pa.Table
    wanted: pa.Table

    @cached_property
    def scores(self) -> pa.Table:
        """All scores, in the columns of ``PUBLISHED_SCORES``."""
        return all_scores(self.reused, self.computed, self.wanted)

    @cached_property
    def refused(self) -> pa.Table:
        """The samples without a score, since each of them ends the process that scores it."""
        return without(self.wanted, self.scores)

    def figures(self) -> dict[str, float]:
        """Counts of samples as figures of metrics.json."""
        counts = {"taken_over": self.reused, "computed": self.computed, "refused": self.refused}
        return {f"influence.{name}": len(table) for name, table in counts.items()}


def all_scores(known: pa.Table, computed: pa.Table, wanted: pa.Table) -> pa.Table:
    """Reused and computed scores, in the columns of ``PUBLISHED_SCORES``.

    Args:
        known: rows of :func:`taken_over`.
        computed: rows of :func:`zigong.influence.score.score_samples`, sorted by sample_id.
        wanted: the scored samples with their input_hash, sorted by sample_id.
    """
    hashes = without(wanted, without(wanted, computed))["input_hash"]
    return pa.concat_tables([known, computed.append_column("input_hash", hashes)], promote_options="default")


def with_constants(table: pa.Table, columns: Mapping[str, str]) -> pa.Table:
    """Adds columns with a constant value."""
    for name, value in columns.items():
        table = table.append_column(name, pa.repeat(value, len(table)))
    return table


def crashed(refused: pa.Table, named: Mapping[str, str]) -> pa.Table:
    """Quarantine rows of samples without a score: columns reasons and payload.

    Args:
        named: fields that the payload of every sample contains.
    """
    payloads = [
        json.dumps({**named, **row}, sort_keys=True)
        for row in refused.select(("sample_id", "user_id", "input_hash")).to_pylist()
    ]
    return pa.table({"reasons": [[CRASHED]] * len(payloads), "payload": payloads})
