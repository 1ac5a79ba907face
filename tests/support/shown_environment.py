"""Starts Spark as ingest does, computes pseudonyms, and writes where a secret of the environment is found."""

from __future__ import annotations

import base64
import json
import os
import sys
from pathlib import Path

from pyspark.sql import functions as F

from tests.support.finished import TINY
from zigong.behavior.sources.pseudonyms import pseudonymiser
from zigong.lakehouse.session import open_spark
from zigong.recipe import load_recipe
from zigong.recipe.source import lakehouse_key


def main(logs: Path) -> None:
    recipe = load_recipe(TINY, ["lakehouse.key=env"])
    spark = open_spark(recipe.engine, app_name="shown")
    key = lakehouse_key(recipe)
    rows = spark.range(8).select(pseudonymiser(key)(F.col("id")).alias("user_id"))
    digests = {row["user_id"] for row in rows.collect()}

    def environment(_: int) -> str:
        return json.dumps(dict(os.environ)) + Path("/proc/self/environ").read_text()

    java = spark._jvm.java.lang
    places = {
        "driver": json.dumps(dict(os.environ)) + Path("/proc/self/environ").read_text(),
        "jvm": str(java.System.getenv()) + str(java.System.getProperties()),
        "process of the jvm": Path(f"/proc/{java.ProcessHandle.current().pid()}/environ").read_text(),
        "worker": spark.range(1).select(F.udf(environment, "string")("id").alias("shown")).collect()[0]["shown"],
        "settings": str(spark.sparkContext.getConf().getAll()),
        "plan": str(rows._jdf.queryExecution().toString()),
    }
    spark.stop()
    places["event log"] = "".join(file.read_text(errors="replace") for file in logs.rglob("*") if file.is_file())
    forms = [key.decode(), key.hex(), base64.b64encode(key).decode()]
    found = [place for place, text in places.items() if any(form in text for form in forms)]
    sizes = {name: len(text) for name, text in places.items()}
    (logs / "found.json").write_text(json.dumps({"digests": len(digests), "places": sizes, "found": found}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
