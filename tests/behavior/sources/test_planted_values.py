"""A raw value that is no valid row of its table is in no file, log or stream of a process but the raw file."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pytest

from tests.support.finished import TINY
from tests.support.stored import everything_on
from zigong.behavior.sources.masking import shape_of, shown_names
from zigong.lakehouse.paths import LakehousePaths
from zigong.lakehouse.tables import arrow_pinned, latest_version

REPOSITORY = Path(__file__).resolve().parents[3]
MAPPING = """
name: planted
data: private
title: a value is planted in every column
files:
  rows:
    path: FILE
    format: csv
    columns:
      id: {type: string, required: true, identifier: true}
      client: {type: string, required: true, identifier: true}
      day: {type: date, required: true}
      kind: {type: string, required: true}
      op: {type: string, required: true}
      amount: {type: string}
      currency: {type: string}
      dpd: {type: int}
      note: {type: string}
events: >
  SELECT client AS user_key, id AS event_key, CAST(NULL AS STRING) AS loan_key, op, kind AS event_type,
    CAST(day AS TIMESTAMP) AS event_at, AMOUNT AS amount, currency, DPD AS days_past_due,
    map('note', note, if(note LIKE '%@%', note, 'word'), 'x') AS attributes
  FROM rows
profiles: >
  SELECT client AS user_key, TIMESTAMP'2023-01-01' AS valid_from, TIMESTAMP'2023-01-01' AS known_at,
    CAST(NULL AS STRING) AS person_key, map('note', max(note)) AS attributes FROM rows GROUP BY client
known_at: {lag: INTERVAL 1 DAY}
outcome_events: [paid]
max_refused_share: 1
"""
HEADER = "id,client,day,kind,op,amount,currency,dpd,note\n"
GOOD = [f"i{n},c{n % 4},2023-03-{n % 28 + 1:02},paid,upsert,{n}.50,EUR,{n},fine" for n in range(60)]
BAD = """
MarkerIdA,MarkerClientA,MarkerDayA,paid,upsert,1.00,EUR,1,fine
MarkerIdB,MarkerClientB,2023-03-01,MarkerKindB,upsert,1.00,EUR,1,fine
MarkerIdC,MarkerClientC,2023-03-01,paid,MarkerOpC,1.00,EUR,1,fine
MarkerIdD,MarkerClientD,2023-03-01,paid,upsert,1.00,MarkerCurrencyD,1,fine
MarkerIdE,MarkerClientE,2023-03-01,paid,upsert,1.00,EUR,MarkerDpdE,fine
MarkerIdF,MarkerClientF,2023-03-01,paid,upsert,1.00,EUR,1,write to MarkerNoteF@mail.example
MarkerIdG,MarkerClientG,2023-03-01,paid,upsert,1.00,EUR,1,fine,MarkerMoreG
""".strip().splitlines()
UNCASTABLE = "MarkerIdH,MarkerClientH,2023-03-01,paid,upsert,MarkerAmountH,EUR,1,fine"
FILES = {
    "bad.csv": HEADER + "\n".join([*GOOD, *BAD]),
    "uncastable.csv": HEADER + "\n".join([*GOOD, UNCASTABLE, UNCASTABLE.replace("H,", "I,")]),
    "headless.csv": "\n".join([UNCASTABLE, *GOOD]),
    "folder/a.csv": HEADER + "\n".join(GOOD),
    "folder/b.csv": "\n".join([UNCASTABLE, *GOOD]),
}
SQL_CAST = ("CAST(amount AS DECIMAL(18,2))", "dpd")
# run: (file, SQL of amount and of days past due)
RUNS = {
    "sqlcast": ("uncastable.csv", SQL_CAST),
    "framecast": ("uncastable.csv", ("amount", "dpd")),
    "parsed": ("uncastable.csv", ("if(amount LIKE 'M%', unix_timestamp(amount, 'yyyy-MM-dd'), 1)", "dpd")),
    "headless": ("headless.csv", SQL_CAST),
    "mixed": ("folder", SQL_CAST),
    "published": ("bad.csv", SQL_CAST),
}
PROGRAM = """
import os
from zigong.cli import app
from zigong.runs.launch import main
from jobs.ingest_events import ingest_events
for name in {names}:
    os.environ["ZIGONG_USER_KEY"] = "k" * 32
    given = [*{given}, "--run-id", name, "--set", f"source.mapping={home}/{{name}}.yaml"]
    try:
        main("ingest_events", ingest_events, given)
    except SystemExit as end:
        print(name, "ended with", end.code)
for name in {checked}:
    code = app(["source", "check", f"{home}/{{name}}.yaml", "--path", "{home}/raw"], standalone_mode=False)
    print(name, "checked with", code)
"""


@dataclass(frozen=True, kw_only=True)
class Ended:
    """A process that has ingested and checked the planted files, and all that it has left."""

    home: Path
    streams: str

    def outcome(self, run_id: str) -> dict[str, str]:
        file = self.home / "work/lake/_runs" / run_id / "steps/ingest_events/outcome.json"
        content: dict[str, str] = json.loads(file.read_text(encoding="utf-8"))
        return content

    def table(self, name: str) -> pa.Table:
        paths = LakehousePaths.at(str(self.home / "work/lake"))
        return arrow_pinned(paths, name, latest_version(paths, name))


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> Ended:
    home = tmp_path_factory.mktemp("planted")
    for name, content in FILES.items():
        (home / "raw" / name).parent.mkdir(parents=True, exist_ok=True)
        (home / "raw" / name).write_text(content + "\n", encoding="utf-8")
    for name, (file, (amount, dpd)) in RUNS.items():
        text = MAPPING.replace("FILE", file).replace("AMOUNT", amount).replace("DPD", dpd)
        (home / f"{name}.yaml").write_text(text, encoding="utf-8")
    for folder in ("work/events", "work/tmp", "conf"):
        (home / folder).mkdir(parents=True)
    settings = {"enabled": "true", "compress": "false", "dir": (home / "work/events").as_uri()}
    lines = "".join(f"spark.eventLog.{name} {value}\n" for name, value in settings.items())
    (home / "conf/spark-defaults.conf").write_text(lines, encoding="utf-8")
    overrides = {"lakehouse.root": home / "work/lake", "source.path": home / "raw", "lakehouse.key": "env"}
    given = [text for name, value in overrides.items() for text in ("--set", f"{name}={value}")]
    program = PROGRAM.format(
        names=[*RUNS], checked=["sqlcast", "headless"], given=["--recipe", str(TINY), *given], home=home
    )
    (home / "program.py").write_text(program, encoding="utf-8")
    known = {"PYTHONPATH": str(REPOSITORY), "SPARK_CONF_DIR": str(home / "conf")}
    known |= {"XDG_CACHE_HOME": str(home / "work/cache")}
    known |= {"TMPDIR": str(home / "work/tmp"), "SPARK_LOCAL_DIRS": str(home / "work/tmp")}
    done = subprocess.run(
        [sys.executable, str(home / "program.py")],  # GX ends a main module without a file
        cwd=home / "work",
        env={**os.environ, **known},
        capture_output=True,
        text=True,
        check=False,
        timeout=500,
    )
    assert "headless checked with" in done.stdout, done.stdout + done.stderr
    return Ended(home=home, streams=done.stdout + done.stderr)


@pytest.mark.soak
def test_a_planted_value_is_in_no_file_log_or_stream_but_the_raw_file(ended: Ended) -> None:
    events = everything_on(ended.home / "work/events")
    assert "SparkListenerJobStart" in events  # it is written, outside of raw values
    found = set(re.findall(r"Marker\w+", ended.streams + everything_on(ended.home / "work")))
    assert found == set()


@pytest.mark.soak
@pytest.mark.parametrize(
    ("run_id", "message"),
    [
        ("sqlcast", r"CAST_INVALID_INPUT in CAST\(amount AS DECIMAL\(18,2\)\)"),
        ("parsed", r"CANNOT_PARSE_TIMESTAMP"),
        ("headless", r"id, client, .* is missing; found aaaaaaaaa, aaaaaaaaaaaaa, 9999-99-99"),
        ("mixed", r"is missing; found aaaaaaaaa, aaaaaaaaaaaaa|folder/b\.csv"),
    ],
)
def test_a_refused_delivery_names_its_fault_without_the_value(ended: Ended, run_id: str, message: str) -> None:
    outcome = ended.outcome(run_id)
    assert outcome["kind"] == "data"
    assert re.search(message, outcome["message"]), outcome["message"]


@pytest.mark.soak
def test_texts_that_are_no_codes_are_quarantined_as_shapes(ended: Ended) -> None:
    assert (ended.home / "work/lake/_runs/published/steps/ingest_events/outcome.json").is_file(), ended.streams
    assert ended.outcome("published")["kind"] == "ok"
    rows = [row for row in ended.table("quarantine").to_pylist() if row["run_id"] == "published"]
    shapes = {reason: row["payload"] for row in rows for reason in row["reasons"]}
    assert '"event_type":"<aaaaaaaaaaa>"' in shapes["event_type_is_a_word"]
    assert '"op":"<aaaaaaaaa>"' in shapes["op_is_known"]
    notes = {str(sorted(row["attributes"])) for row in ended.table("behavior_events").to_pylist()}
    assert notes == {
        "[('note', 'fine'), ('word', 'x')]",
        "[('aaaaa aa aaaaaaaaaaa@aaaa.aaaaaaa', 'x'), ('note', 'write to <EMAIL>')]",
    }


def test_a_header_is_shown_only_if_a_declared_column_is_in_it() -> None:
    assert shown_names(["id", "Klient"], ["id", "client"]) == ["id", "Klient"]
    assert shown_names(["4711", "Jörg Müller"], ["id", "client"]) == ["9999", "aaaa aaaaaa"]
    assert shape_of("x" * 50) == "a" * 40
