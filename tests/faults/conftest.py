"""A lakehouse into which a small source was ingested once."""

from __future__ import annotations

from itertools import count

import pytest
from pyspark.sql import SparkSession

from tests.support.shop import GOOD, Shop


@pytest.fixture(scope="module")
def shop(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Shop:
    home = tmp_path_factory.mktemp("shop")
    shop = Shop(home, home / "lake", count())
    assert shop.ingest({"rows.csv": GOOD}, "rows.csv").kind == "ok"
    assert [len(rows) for _, rows in shop.published().values()] == [3, 2]
    return shop
