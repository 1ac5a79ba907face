"""The limits of the session, as its JVM reports them, and what its processes may know."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import pyarrow as pa
import pytest
from py4j.java_gateway import GatewayClient
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from tests.support.finished import TINY
from zigong.errors import ConfigError
from zigong.lakehouse.session import open_spark
from zigong.recipe import load_recipe
from zigong.recipe.source import lakehouse_key
from zigong.recipe.user_key import KEY_FILE_VARIABLE, KEY_VARIABLE, taken_key

REPOSITORY = Path(__file__).parents[2]

MIB = 2**20


def test_a_session_with_few_compiler_threads_has_a_large_code_cache(spark: SparkSession) -> None:
    jvm = spark.sparkContext._jvm
    assert jvm is not None
    flags = jvm.java.lang.management.ManagementFactory.getRuntimeMXBean().getInputArguments()
    pools = jvm.java.lang.management.ManagementFactory.getMemoryPoolMXBeans()
    room = sum(pool.getUsage().getMax() for pool in pools if "Code" in pool.getName())

    assert "-XX:TieredStopAtLevel=1" in list(flags)
    assert room >= 200 * MIB  # 48 is full after a minute, and the rest of a run would be interpreted


def test_an_expression_asks_the_jvm_once_for_each_of_its_parts(
    spark: SparkSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    F.col("the first one of a process also asks for the setting")
    asked, ask = [], GatewayClient.send_command

    def counted(client: GatewayClient, command: str, *args: object, **kwargs: object) -> str:
        asked.append(command)
        answer: str = ask(client, command, *args, **kwargs)
        return answer

    monkeypatch.setattr(GatewayClient, "send_command", counted)
    (F.col("a") + 1).alias("b")
    calls = [command for command in asked if command.startswith("c\n")]
    assert len(calls) == 3  # 36 where PySpark names the line of each in errors


def test_python_workers_begin_with_their_libraries_and_read_no_zip(spark: SparkSession) -> None:
    """A worker imports seconds of libraries again, from zips whose directories each task reads, if nothing is done."""

    def modules(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        zips = [entry for entry in (*sys.path, *sys.path_importer_cache) if "/pyspark/" in entry and ".zip" in entry]
        yield from (pa.RecordBatch.from_pydict({"zips": [zips], "loaded": [sorted(sys.modules)]}) for _ in batches)

    found = spark.range(1).mapInArrow(modules, "zips array<string>, loaded array<string>").first()
    assert found is not None
    assert found["zips"] == []
    assert {"pandas", "pyarrow.compute", "pyspark.sql.functions"} <= set(found["loaded"])


@pytest.mark.soak
def test_the_key_of_the_pseudonyms_is_in_no_other_process_setting_plan_or_log(tmp_path: Path) -> None:
    logs = tmp_path / "logs"
    logs.mkdir()
    settings = f"--conf spark.eventLog.enabled=true --conf spark.eventLog.dir={logs.as_uri()} pyspark-shell"
    secret = {KEY_VARIABLE: "a-secret-of-this-lender", "PYSPARK_SUBMIT_ARGS": settings}
    done = subprocess.run(
        [sys.executable, "-m", "tests.support.shown_environment", str(logs)],
        cwd=REPOSITORY,
        env={**os.environ, **secret, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    shown = json.loads((logs / "found.json").read_text())
    assert shown["found"] == []
    assert shown["digests"] == 8
    assert min(shown["places"].values()) > 100  # every place was read


def test_a_setting_that_would_pass_the_key_to_executors_is_refused(
    spark: SparkSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(KEY_VARIABLE, spark.sparkContext.applicationId)  # a value that Spark's settings hold
    with pytest.raises(ConfigError, match=f"Spark's setting spark.app.id holds {KEY_VARIABLE}"):
        open_spark(load_recipe(TINY).engine, app_name="tests")
    monkeypatch.setenv(KEY_VARIABLE, "a-secret-of-this-lender")
    assert open_spark(load_recipe(TINY).engine, app_name="tests") is not None


def test_a_key_in_a_file_is_read_when_needed_and_a_missing_file_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "key").write_text("a-secret-in-a-file\n")
    monkeypatch.setenv(KEY_FILE_VARIABLE, str(tmp_path / "key"))
    assert lakehouse_key(load_recipe(TINY, ["lakehouse.key=env"])) == b"a-secret-in-a-file"
    monkeypatch.setenv(KEY_FILE_VARIABLE, str(tmp_path / "none"))
    with pytest.raises(ConfigError, match="none cannot be read: FileNotFoundError"):
        taken_key()
