"""The SQL of a mapping is a query over its files, of known functions, that gives the same rows at each run."""

from __future__ import annotations

from pathlib import Path

import pytest
from pyspark.sql import DataFrame, SparkSession

from schemas.mappings import SourceMapping, parse_mapping
from zigong.behavior.sources.check import check_source
from zigong.behavior.sources.ingest import events_from, profiles_from, read_raw
from zigong.behavior.sources.sql_functions import ALLOWED_FUNCTIONS, ORDER_DEPENDENT, REFUSED_FUNCTIONS
from zigong.errors import DataError

KEY = b"a-key-for-these-tests-only"
MAPPING = """
name: toy
data: public
title: toy
files:
  rows:
    path: rows.csv
    format: csv
    columns:
      id: {type: string, required: true, identifier: true}
      client: {type: string, required: true, identifier: true}
      day: {type: date, required: true}
      kind: {type: string, required: true}
      user: {type: string}
events: |
  SELECT client AS user_key, EVENT_KEY AS event_key, CAST(NULL AS STRING) AS loan_key, 'upsert' AS op,
    kind AS event_type, CAST(day AS TIMESTAMP) AS event_at, CAST(1 AS DECIMAL(18,2)) AS amount, 'EUR' AS currency,
    CAST(NULL AS INT) AS days_past_due, map('note', NOTE) AS attributes
  FROM ROWS
profiles: |
  SELECT client AS user_key, TIMESTAMP'2023-01-01' AS valid_from, TIMESTAMP'2023-01-01' AS known_at,
    CAST(NULL AS STRING) AS person_key, CAST(map() AS MAP<STRING, STRING>) AS attributes
  FROM (SELECT DISTINCT client FROM rows)
known_at: {lag: INTERVAL 1 DAY}
outcome_events: [paid]
"""
LINES = ["0,c0,2023-03-01,paid,x", "1,c1,2023-03-02,paid,x", "2,c0,2023-03-03,paid,x", "3,c2,2023-03-04,paid,x"]


def mapping_with(*, key: str = "id", note: str = "user", rows: str = "rows") -> SourceMapping:
    text = MAPPING.replace("EVENT_KEY", key).replace("NOTE", note).replace("FROM ROWS", f"FROM {rows}")
    return parse_mapping(text, origin="toy.yaml")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("landing")
    (folder / "rows.csv").write_text("\n".join(["id,client,day,kind,user", *LINES]) + "\n")
    return folder


def stated(spark: SparkSession, mapping: SourceMapping, folder: Path) -> DataFrame:
    """The events; that the profiles can be stated is checked as well."""
    raw = read_raw(spark, mapping, str(folder))
    profiles_from(spark, raw, mapping, key=KEY, timezone="UTC")
    return events_from(spark, raw, mapping, key=KEY, buckets=1, timezone="UTC")


def test_every_function_of_spark_is_either_allowed_or_refused_with_a_reason(spark: SparkSession) -> None:
    state = spark._jsparkSession.sessionState()
    known = set()
    for registry in (state.functionRegistry(), state.tableFunctionRegistry()):
        names = registry.listFunction()
        known |= {str(names.apply(place).funcName()) for place in range(names.length())}
    assert known == ALLOWED_FUNCTIONS | REFUSED_FUNCTIONS.keys()
    assert not ALLOWED_FUNCTIONS & REFUSED_FUNCTIONS.keys()
    assert ORDER_DEPENDENT <= ALLOWED_FUNCTIONS


ENVIRONMENT = "java_method('java.lang.System', 'getenv', 'ZIGONG_USER_KEY')"


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"note": ENVIRONMENT}, r"java_method\(\) calls code of the JVM"),
        ({"note": "`Reflect`('java.lang.System', 'getenv', 'HOME')"}, r"reflect\(\) calls code of the JVM"),
        ({"note": "system.builtin.try_reflect('java.lang.System', 'getenv')"}, r"try_reflect\(\) calls code"),
        ({"note": "'${env:ZIGONG_USER_KEY}'"}, "a variable of the process, is not allowed"),
        ({"note": "'${system:user.home}'"}, "a variable of the process, is not allowed"),
        ({"rows": "rows JOIN text.`/proc/self/environ` ON true"}, "text./proc/self/environ is none of the files"),
        ({"rows": "read_files('/proc/self/environ')"}, r"read_files\(\) is none of the functions"),
        ({"rows": "(SELECT TRANSFORM(client) USING 'env' AS (client) FROM rows)"}, "ScriptTransformation is not part"),
        ({"note": "IDENTIFIER('java_method')('java.lang.System', 'getenv')"}, r"IDENTIFIER\(...\) names what"),
        ({"rows": f"IDENTIFIER({ENVIRONMENT})"}, "PlanWithUnresolvedIdentifier is not part"),
        ({"note": "leak(client)"}, r"leak\(\) is none of the functions"),
        ({"note": f"(SELECT max({ENVIRONMENT}))"}, r"java_method\(\)"),
        ({"rows": f"rows WHERE client IN (SELECT {ENVIRONMENT})"}, r"java_method\(\)"),
        ({"note": "max(user) OVER w", "rows": f"rows WINDOW w AS (ORDER BY {ENVIRONMENT})"}, r"java_method\(\)"),
        ({"note": f"filter(array(user), x -> x = {ENVIRONMENT})[0]"}, r"java_method\(\)"),
        ({"rows": f"rows LATERAL VIEW explode(array({ENVIRONMENT})) t AS c"}, r"java_method\(\)"),
        ({"rows": f"rows, LATERAL (SELECT {ENVIRONMENT} AS c)"}, r"java_method\(\)"),
        ({"rows": f"(VALUES ({ENVIRONMENT})) AS t(client)"}, r"java_method\(\)"),
        ({"rows": "python_worker_logs()"}, "reads something other than the files"),
        ({"rows": "secrets"}, "secrets is none of the files"),
        ({"rows": "(WITH secrets AS (SELECT * FROM secrets) SELECT * FROM secrets)"}, "secrets is none of the files"),
        ({"rows": "rows VERSION AS OF 1"}, "RelationTimeTravel is not part"),
        ({"note": "current_user()"}, r"current_user\(\) shows the session"),
        ({"note": "CURRENT_USER"}, r"attributes uses current_user\(\), which shows the session"),
        ({"note": "raise_error(client)"}, r"raise_error\(\) ends the step"),
        ({"note": "xpath_string('<a/>', 'a')"}, r"xpath_string\(\) reads definitions"),
    ],
)
def test_sql_that_reaches_beyond_the_files_is_refused_before_it_runs(
    spark: SparkSession, folder: Path, changed: dict[str, str], told: str
) -> None:
    spark.udf.register("leak", lambda text: text)
    spark.range(1).createOrReplaceTempView("secrets")
    with pytest.raises(DataError, match=f"events: .*{told}"):
        stated(spark, mapping_with(**changed), folder)


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"key": "uuid()"}, r"events: event_key uses uuid\(\), which differs at each run"),
        ({"key": "concat('m', monotonically_increasing_id())"}, r"event_key uses monotonically_increasing_id\(\)"),
        ({"note": "CAST(now() AS STRING)"}, r"events: attributes uses now\(\), which differs at each run"),
        ({"note": "CAST(current_date AS STRING)"}, r"attributes uses current_date\(\), which differs"),
        ({"note": "CAST(unix_timestamp() AS STRING)"}, r"attributes uses current_timestamp\(\), which differs"),
        ({"note": "CAST(localtimestamp() AS STRING)"}, r"attributes uses localtimestamp\(\), which differs"),
        ({"key": "u", "rows": "(SELECT *, uuid() AS u FROM rows)"}, r"event_key uses uuid\(\)"),
        (
            {"key": "u", "rows": "(WITH v AS (SELECT *, uuid() u FROM rows) SELECT * FROM v)"},
            r"event_key uses uuid\(\)",
        ),
        ({"rows": "(SELECT * FROM rows WHERE rand() < 0.5)"}, r"events: its rows depend on rand\(\), which differs"),
        ({"key": "row_number() OVER (ORDER BY rand())"}, r"events: its rows depend on rand\(\)"),
        ({"rows": "rows TABLESAMPLE (50 PERCENT)"}, "TABLESAMPLE without REPEATABLE differs at each run"),
        ({"note": "shuffle(array(user, kind))[0]"}, r"attributes uses shuffle\(\)"),
        ({"note": "base64(aes_encrypt(user, '0000111122223333'))"}, r"attributes uses aes_encrypt\(\)"),
        ({"note": "input_file_name()"}, r"attributes uses input_file_name\(\)"),
    ],
)
def test_sql_that_differs_at_each_run_is_refused_with_its_column_by_check_and_by_ingest(
    spark: SparkSession, folder: Path, changed: dict[str, str], told: str
) -> None:
    mapping = mapping_with(**changed)
    with pytest.raises(DataError, match=told):
        stated(spark, mapping, folder)


def test_the_check_reports_such_sql_as_a_fault(spark: SparkSession, folder: Path) -> None:
    result = check_source(spark, mapping_with(key="uuid()"), str(folder), timezone="UTC")
    (fault,) = [item for item in result.findings if item.blocking]
    assert fault.section == "events"
    assert fault.problem.endswith("events: event_key uses uuid(), which differs at each run")


@pytest.mark.parametrize(
    ("changed", "events"),
    [
        ({"note": "user"}, 4),  # a column, although a function has that name
        ({"note": "concat_ws('|', kind, '{a}', '$1', date_format(day, 'yyyy'), extract(YEAR FROM day))"}, 4),
        ({"rows": "(WITH v(a, b) AS (SELECT 1, 2), r AS (SELECT * FROM rows) SELECT r.* FROM v JOIN r ON true)"}, 4),
        (
            {"rows": "(SELECT /*+ BROADCAST(rows) */ * FROM ROWS QUALIFY rank() OVER (ORDER BY id) <= 4)"},
            4,
        ),
        ({"rows": "rows LATERAL VIEW posexplode(array(1, 2)) t AS p, c WHERE c IN (SELECT id FROM range(3))"}, 8),
        ({"note": "CAST(sum(1) OVER w AS STRING)", "rows": "rows WINDOW w AS (PARTITION BY client ORDER BY id)"}, 4),
        ({"note": "CAST(unix_timestamp(day, 'yyyy-MM-dd') AS STRING)"}, 4),
        ({"rows": "(FROM rows |> WHERE id > 0)"}, 3),
        ({"note": "array_join(transform(split(kind, ''), c -> upper(c)), '')"}, 4),
    ],
)
def test_ordinary_queries_over_the_files_are_allowed(
    spark: SparkSession, folder: Path, changed: dict[str, str], events: int
) -> None:
    assert stated(spark, mapping_with(**changed), folder).count() == events
