"""Shared fixtures: one Spark session, one Ray cluster and one finished tiny run, each created on first use."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest
import ray
from pyspark.sql import SparkSession

from tests.support.finished import TINY, FinishedRun, finish
from zigong.fanout.cluster import open_ray
from zigong.lakehouse.session import open_spark
from zigong.recipe import load_recipe

# Spark Connect, which GX imports, takes a main module without a file, as a worker of xdist has, for its doctests: exit.
if not hasattr(sys.modules["__main__"], "__file__"):
    sys.modules["__main__"].__file__ = pytest.__file__


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Divides the tests for `pytest -n 2 --dist loadgroup`: those of the finished run first and in one process."""

    def group(item: pytest.Item) -> str:
        return "finished run" if "tiny_run" in getattr(item, "fixturenames", ()) else item.path.name

    for item in items:
        item.add_marker(pytest.mark.xdist_group(group(item)))
    items.sort(key=lambda item: group(item) != "finished run")


@pytest.fixture(scope="session")
def spark() -> Iterator[SparkSession]:
    session = open_spark(load_recipe(TINY).engine, app_name="zigong-tests")
    yield session
    session.stop()


@pytest.fixture(scope="session")
def local_ray() -> Iterator[None]:
    open_ray(load_recipe(TINY).engine)
    yield
    ray.shutdown()


@pytest.fixture(scope="session")
def tiny_run(spark: SparkSession, local_ray: None, tmp_path_factory: pytest.TempPathFactory) -> FinishedRun:
    return finish(tmp_path_factory.mktemp("lakehouse"), "first")
