"""Shared fixtures: one Spark session and one finished tiny run for all tests, both made when first asked for."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from tests.finished import REPOSITORY, TINY, FinishedRun, finish
from zigong.lakehouse.session import open_spark
from zigong.recipe import load_recipe


@pytest.fixture(scope="session")
def spark() -> Iterator[SparkSession]:
    session = open_spark(load_recipe(TINY).engine, app_name="zigong-tests")
    yield session
    session.stop()


@pytest.fixture(scope="session")
def tiny_run(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> FinishedRun:
    return finish(tmp_path_factory.mktemp("lakehouse"), "first")


@pytest.fixture(scope="session")
def public_data() -> Path:
    """The folder of the public data files, which the project does not ship."""
    folder = Path(os.environ.get("ZIGONG_DATA", REPOSITORY.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no public data in {folder}; set ZIGONG_DATA to the folder that holds credit_record and taiwan")
    return folder
