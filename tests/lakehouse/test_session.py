"""The session's limits, as its JVM has them."""

from __future__ import annotations

from pyspark.sql import SparkSession

MIB = 2**20


def test_a_session_of_few_compilers_has_room_for_what_it_compiles(spark: SparkSession) -> None:
    jvm = spark.sparkContext._jvm
    assert jvm is not None
    flags = jvm.java.lang.management.ManagementFactory.getRuntimeMXBean().getInputArguments()
    pools = jvm.java.lang.management.ManagementFactory.getMemoryPoolMXBeans()
    room = sum(pool.getUsage().getMax() for pool in pools if "Code" in pool.getName())

    assert "-XX:TieredStopAtLevel=1" in list(flags)
    assert room >= 200 * MIB  # 48 is full after a minute, and the rest of a run would be interpreted
