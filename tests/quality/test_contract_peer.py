"""datacontract-cli, another ODCS reader, accepts every contract and evaluates published tables by their contract.

It runs from a separate environment (`make contract-env`), over the Parquet files of a table's newest version, since its
Delta reader fetches a DuckDB extension from the network. It skips our custom rules, relationships to tables of other
contracts, and Parquet types.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import yaml
from deltalake import DeltaTable, write_deltalake
from pyspark.sql import SparkSession

from schemas.contracts import contract_text, table_contract, table_names
from zigong.lakehouse.commits import create_if_missing
from zigong.lakehouse.paths import LakehousePaths

PEER = Path("build/venv-contracts/bin/datacontract").absolute()
TABLE = "training_mix"
pytestmark = [
    pytest.mark.soak,
    pytest.mark.skipif(not PEER.is_file(), reason=f"{PEER.name} is not installed: `make contract-env`"),
]


def peer_checks(folder: Path, *arguments: str) -> dict[str, str]:
    """Runs the peer; returns the results of its checks by name."""
    report = folder / "checks.json"
    report.unlink(missing_ok=True)
    command = [str(PEER), *arguments, "--output-format", "json", "--output", str(report)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert report.is_file(), done.stdout + done.stderr
    content: dict[str, Any] = json.loads(report.read_text())
    return {check["name"]: check["result"] for check in content["checks"]}


def mix(samples: list[str], shares: list[str]) -> pa.Table:
    count = len(samples)
    return pa.table(
        {
            "mix_id": ["mix"] * count,
            "sample_id": samples,
            "share": shares,
            "rank": pa.array(range(1, count + 1), pa.int32()),
            "score": [0.5] * count,
            "label": pa.array([1] * count, pa.int32()),
        }
    )


def evaluated(paths: LakehousePaths, folder: Path) -> dict[str, str]:
    """The peer's verdict on the newest version of the table, read from the files that the log lists."""
    source, files = Path(paths.table(TABLE)), folder / "newest"
    shutil.rmtree(files, ignore_errors=True)
    for uri in DeltaTable(str(source)).file_uris():
        part = Path(uri.removeprefix("file://")).relative_to(source)
        (files / part).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source / part, files / part)
    document = yaml.safe_load(contract_text(TABLE))
    server = {"server": "lake", "type": "local", "path": f"{files}/**/*.parquet", "format": "parquet"}
    copy = folder / "contract.yaml"
    copy.write_text(yaml.safe_dump({**document, "servers": [server]}, sort_keys=False))
    return peer_checks(folder, "test", str(copy))


@pytest.mark.parametrize("name", table_names())
def test_the_peer_accepts_every_contract(tmp_path: Path, name: str) -> None:
    contract = tmp_path / f"{name}.yaml"
    contract.write_text(contract_text(name))
    checks = peer_checks(tmp_path, "lint", str(contract), "--all-errors")
    assert set(checks.values()) == {"passed"}, checks


def test_the_peer_rejects_a_file_that_is_not_odcs(tmp_path: Path) -> None:
    contract = tmp_path / "wrong.yaml"
    contract.write_text(contract_text(TABLE).replace("logicalType: string", "logicalType: words", 1))
    assert "failed" in peer_checks(tmp_path, "lint", str(contract)).values()


def test_the_peer_evaluates_a_published_table_by_its_contract(spark: SparkSession, tmp_path: Path) -> None:
    paths = LakehousePaths.at(str(tmp_path / "lake"))
    create_if_missing(paths, table_contract(TABLE))
    path = paths.table(TABLE)

    write_deltalake(path, mix(["a", "a", "b"], ["influence", "random", "luck"]), mode="append")
    checks = evaluated(paths, tmp_path)
    broken = {name for name, result in checks.items() if result == "failed"}
    assert len(broken) == 2, checks
    assert any("primary key (mix_id, sample_id)" in name for name in broken)
    assert any("share" in name for name in broken)

    write_deltalake(path, mix(["a", "b"], ["influence", "random"]), mode="overwrite")
    checks = evaluated(paths, tmp_path)
    assert set(checks.values()) <= {"passed", "warning"}, checks
    required = [column.name for column in table_contract(TABLE).columns if column.required]
    assert all(checks[f"Check that field {name} has no missing values"] == "passed" for name in required)
    warned = {name for name, result in checks.items() if result == "warning"}
    assert all("has type" in name or "missing from dataset_members" in name for name in warned), warned
