"""Staged shards: written atomically, verified, and read for a single commit."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from zigong.errors import DataError
from zigong.files.atomic import promoted_file, write_json
from zigong.files.digests import file_digest, json_digest

Shard = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class ShardManifest:
    """Description of one shard's file.

    Attributes:
        shard: name of the shard.
        rows: number of rows of the file.
        keys: number of distinct values of its first column.
        checksum: SHA-256 of the file.
        fingerprint: digest of all inputs of the rows except the shard: model, checkpoints, settings, input versions.
        shard_digest: SHA-256 of the shard's description.
        refused: keys of the shard that are not in the file, because each ended its worker's process.
    """

    shard: str
    rows: int
    keys: int
    checksum: str
    fingerprint: str
    shard_digest: str
    refused: tuple[str, ...] = ()


def write_shard(
    table: pa.Table, shard: Shard, *, stage_folder: Path, fingerprint: str, refused: Sequence[str] = ()
) -> ShardManifest:
    """Writes a shard's file and then its manifest, each atomically through a temporary name."""
    file, manifest_file = _files(stage_folder, shard)
    manifest_file.unlink(missing_ok=True)
    with promoted_file(file) as partial:
        pq.write_table(table, partial)
        manifest = ShardManifest(
            shard=str(shard["shard"]),
            rows=table.num_rows,
            keys=pc.count_distinct(table.column(0)).as_py(),
            checksum=file_digest(partial),
            fingerprint=fingerprint,
            shard_digest=json_digest(shard),
            refused=tuple(sorted(refused)),
        )
    write_json(manifest_file, asdict(manifest))
    return manifest


def complete_shard(stage_folder: Path, shard: Shard, fingerprint: str) -> ShardManifest | None:
    """The manifest of a shard whose file exists, is unchanged and has this fingerprint; else None."""
    file, manifest_file = _files(stage_folder, shard)
    if not (file.is_file() and manifest_file.is_file()):
        return None
    manifest = _read_manifest(manifest_file)
    if manifest is None or (fingerprint, json_digest(shard)) != (manifest.fingerprint, manifest.shard_digest):
        return None
    return manifest if file_digest(file) == manifest.checksum else None


def remove_shard(stage_folder: Path, shard: Shard) -> None:
    """Removes a shard's files, the manifest first."""
    file, manifest_file = _files(stage_folder, shard)
    manifest_file.unlink(missing_ok=True)
    file.unlink(missing_ok=True)


def read_shard(stage_folder: Path, shard: Shard) -> pa.Table:
    """The rows of a complete shard."""
    return pq.read_table(_files(stage_folder, shard)[0])


def _files(stage_folder: Path, shard: Shard) -> tuple[Path, Path]:
    return stage_folder / f"{shard['shard']}.parquet", stage_folder / f"{shard['shard']}.json"


def _read_manifest(file: Path) -> ShardManifest | None:
    """The manifest, or None if the file does not hold one: a partly written shard is recomputed, not an error."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        return ShardManifest(**{**content, "refused": tuple(content["refused"])})
    except (ValueError, TypeError, KeyError):
        return None


def staged_rows(
    folder: Path, manifests: Sequence[ShardManifest], expected: pa.ChunkedArray, *, key: str = "sample_id"
) -> pa.Table:
    """The rows of all shards, sorted by key, after anti-joins in both directions with the expected keys.

    Args:
        folder: folder of the staged shards.
        manifests: manifests of the shards.
        expected: distinct keys to compute. The rows do not include keys that a manifest lists as refused.

    Raises:
        DataError: a key is missing, duplicated, unexpected, or both computed and refused.
    """
    files = [str(folder / f"{manifest.shard}.parquet") for manifest in manifests if manifest.rows]
    nothing = pa.table({key: pa.array([], expected.type)})
    rows = ds.dataset(files).to_table().sort_by(key) if files else nothing
    refused = pa.array([name for manifest in manifests for name in manifest.refused], expected.type)
    found = pa.concat_arrays([*rows[key].chunks, refused])
    missing = pc.sum(pc.invert(pc.is_in(expected, found))).as_py() or 0
    unknown = pc.sum(pc.invert(pc.is_in(found, expected.combine_chunks()))).as_py() or 0
    duplicated = len(found) - pc.count_distinct(found).as_py()
    if missing or unknown or duplicated:
        raise DataError(
            f"{folder.name}: expected {len(expected)} keys, found {len(found)}, of which {len(refused)} refused: "
            f"{missing} missing, {unknown} unknown, {duplicated} duplicated",
            action="run the step again with a new run id; if it persists, report the versions in the run's manifest",
        )
    return rows
