"""Which published scores still hold, so that only the rest is computed."""

from __future__ import annotations

import hashlib

import pyarrow as pa
import pyarrow.compute as pc

from zigong.influence.score import SCORES

PUBLISHED_SCORES = pa.schema([*SCORES, ("input_hash", pa.string())])
HASHED = ("text_hash", "completion_ids", "observation_date", "matured_at")


def with_input_hash(samples: pa.Table) -> pa.Table:
    """Adds ``input_hash``, the SHA-256 of all that a sample's score is computed from but the scorer.

    Args:
        samples: sample_id and the columns of ``HASHED``; ``text_hash`` stands for the token ids of the prompt, since
            sample_id hangs on the tokenizer.
    """
    rows = zip(*(samples[name].to_pylist() for name in HASHED), strict=True)
    hashes = [hashlib.sha256("|".join(map(str, row)).encode()).hexdigest() for row in rows]
    return samples.append_column("input_hash", pa.array(hashes, pa.string()))


def identities(samples: pa.Table) -> list[str]:
    """sample_id and input_hash of each sample as one text: what a sample is, and what it says."""
    return [
        f"{key}:{digest}"
        for key, digest in zip(samples["sample_id"].to_pylist(), samples["input_hash"].to_pylist(), strict=True)
    ]


def taken_over(members: pa.Table, former: pa.Table) -> pa.Table:
    """The rows of former scores that hold for members as they are now, each sample once, sorted by sample_id.

    Args:
        members: sample_id and input_hash of the samples that need a score.
        former: published scores of the same scorer, of any dataset.
    """
    wanted = pa.array(identities(members), pa.string())
    known = former.sort_by("sample_id")
    held = known.filter(pc.is_in(pa.array(identities(known), pa.string()), wanted))
    keys = held["sample_id"].to_pylist()
    return held.take(pa.array([i for i, key in enumerate(keys) if i == 0 or key != keys[i - 1]], pa.int64()))


def without(members: pa.Table, scored: pa.Table) -> pa.Table:
    """The members whose scores must be computed."""
    return members.filter(pc.invert(pc.is_in(members["sample_id"], scored["sample_id"].combine_chunks())))
