"""The limits of the session, as its JVM reports them."""

from __future__ import annotations

from pyspark.sql import SparkSession

MIB = 2**20


def test_a_session_with_few_compiler_threads_has_a_large_code_cache(spark: SparkSession) -> None:
    jvm = spark.sparkContext._jvm
    assert jvm is not None
    flags = jvm.java.lang.management.ManagementFactory.getRuntimeMXBean().getInputArguments()
    pools = jvm.java.lang.management.ManagementFactory.getMemoryPoolMXBeans()
    room = sum(pool.getUsage().getMax() for pool in pools if "Code" in pool.getName())

    assert "-XX:TieredStopAtLevel=1" in list(flags)
    assert room >= 200 * MIB  # 48 is full after a minute, and the rest of a run would be interpreted
