"""Raw ids are never written to disk, and erased users are removed from every file and never reappear."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import yaml
from pyspark.sql import SparkSession
from pyspark.sql import functions as F
from typer.testing import CliRunner

from schemas.contracts import TableContract, parse_contract, table_contract, table_names
from schemas.mappings import parse_mapping
from tests.support.finished import TINY
from tests.support.stored import everything_on
from zigong.behavior.sources.faults import raw_faults
from zigong.cli import app
from zigong.erasure.traces import Traces
from zigong.erasure.verify import verify_erased
from zigong.errors import ConfigError, DataError
from zigong.lakehouse.erasures import erasures
from zigong.lakehouse.paths import LakehousePaths
from zigong.lakehouse.tables import arrow_pinned, latest_version
from zigong.recipe import load_recipe
from zigong.runs.run import Run
from zigong.runs.runner import execute, start

CLIENTS, ERASED = 8, 3
MAPPING = """
name: planted
data: simulated
title: a source whose raw ids can be recognised
files:
  rows:
    path: rows.csv
    format: csv
    columns:
      CLIENT: {type: string, required: true, identifier: true}
      LOAN: {type: string, required: true, identifier: true}
      EVENT: {type: string, required: true, identifier: true}
      PERSON: {type: string, required: true, identifier: true}
      AT: {type: timestamp, required: true}
      DPD: {type: int, required: true}
      NOTE: {type: string}
events: >
  SELECT CLIENT AS user_key, EVENT AS event_key, LOAN AS loan_key, 'upsert' AS op,
    if(DPD = 0, 'paid', 'late') AS event_type, AT AS event_at, CAST(NULL AS DECIMAL(18, 2)) AS amount,
    CAST(NULL AS STRING) AS currency, DPD AS days_past_due, map('note', NOTE) AS attributes
  FROM rows
profiles: >
  SELECT CLIENT AS user_key, TIMESTAMP'2023-01-01' AS valid_from, TIMESTAMP'2023-01-01' AS known_at,
    min(PERSON) AS person_key, map('kind', 'x') AS attributes FROM rows GROUP BY CLIENT
known_at: {lag: INTERVAL 1 HOUR}
outcome_events: [paid, late]
max_refused_share: 0.5  # a quarter of its rows is planted for quarantine
"""
RAW = re.compile(r"RAW(CLIENT|LOAN|EVENT|PERSON)\d{4}")


def raw_rows() -> str:
    """Seven months of each client, a duplicate, a conflict, and rows that do not fit in several ways."""
    lines = ["CLIENT,LOAN,EVENT,PERSON,AT,DPD,NOTE"]
    for client in range(CLIENTS):
        ids = f"RAWCLIENT{client:04},RAWLOAN{client:04},RAWEVENT{{:04}},RAWPERSON{client // 2:04}"
        for month in range(1, 8):
            lines.append(
                f"{ids.format(100 * client + month)},2023-0{month}-1{client} 10:00:00,{(month + client) % 3},ok"
            )
        lines.append(lines[-1])
        lines.append(lines[-1].replace(",ok", ",other"))
        lines.append(f"{ids.format(100 * client + 50)},soon,0,ok")
        lines.append(f"{ids.format(100 * client + 51)},2023-01-10 10:00:00,RAWCLIENT{client:04},ok")
        lines.append(f"extra,{ids.format(100 * client + 52)},2023-01-10 10:00:00,0,ok")
        lines.append(f"{ids.format(100 * client + 53)},2023-01-10 10:00:00,0,call 13800138000")
    return "\n".join(lines) + "\n"


@dataclass(frozen=True, kw_only=True)
class Lender:
    """A source outside the lakehouse and the recipe that reads it."""

    home: Path
    recipe_file: Path
    stored_before: str = ""  # everything on disk before anybody was erased
    quarantined_before: int = 0

    @property
    def root(self) -> Path:
        return self.home / "lakehouse"

    @property
    def paths(self) -> LakehousePaths:
        return LakehousePaths.at(str(self.root))

    def run(self, run_id: str, *, until: str) -> Run:
        """Runs the first steps under a run id."""
        run = start(load_recipe(self.recipe_file), run_id)
        for _, outcome, _ in execute(run, until=until):
            assert outcome.code == 0, f"{outcome.step}: {outcome.message}"
        return run

    def user_ids(self, table: str) -> set[str]:
        rows = arrow_pinned(self.paths, table, latest_version(self.paths, table), columns=["user_id"])
        return set(rows["user_id"].to_pylist())


@pytest.fixture(scope="module")
def lender(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Lender:
    home = tmp_path_factory.mktemp("lender")
    (home / "source").mkdir()
    (home / "source" / "rows.csv").write_text(raw_rows())
    (home / "planted.yaml").write_text(MAPPING)
    content = yaml.safe_load(TINY.read_text(encoding="utf-8"))
    content["lakehouse"]["root"] = str(home / "lakehouse")
    content["source"] = {"mapping": str(home / "planted.yaml"), "path": str(home / "source")}
    (home / "recipe.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    made = Lender(home=home, recipe_file=home / "recipe.yaml")
    made.run("before", until="build_features")
    quarantined = arrow_pinned(made.paths, "quarantine", latest_version(made.paths, "quarantine"))
    return replace(made, stored_before=everything_on(made.root), quarantined_before=len(quarantined))


@pytest.mark.soak
def test_no_job_ever_writes_a_raw_id_or_an_unmasked_phone(lender: Lender) -> None:
    stored = lender.stored_before
    assert not RAW.search(stored)
    assert "13800138000" not in stored
    assert "call <PHONE>" in stored
    assert lender.quarantined_before == CLIENTS * 4  # a bad time, a bad number, a row too long, a contradiction


def test_sql_that_fails_on_a_value_is_reported_without_the_value(
    spark: SparkSession, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    mapping = parse_mapping(MAPPING, origin="planted.yaml")
    clients = spark.range(4).select(F.concat(F.lit("RAWCLIENT000"), "id").alias("CLIENT"))
    with (
        pytest.raises(DataError, match=r"planted.yaml: .*CAST_INVALID_INPUT.* in CAST\(CLIENT AS INT\)") as error,
        raw_faults(spark, mapping, "landing"),
    ):
        spark.sql("SELECT CAST(CLIENT AS INT) FROM {clients}", clients=clients).collect()
    captured = capfd.readouterr()
    assert not RAW.search("\n".join((str(error.getrepr(chain=True)), captured.out, captured.err, caplog.text)))


@pytest.mark.parametrize("name", table_names())
def test_every_contract_leads_to_a_person_or_declares_nobody(name: str) -> None:
    contract: TableContract = table_contract(name)
    if contract.person.kind == "link":
        assert {contract.person.column, "user_id"} <= set(table_contract(contract.person.table).column_names)
    keys = {column.name for column in contract.columns if column.classification == "pseudonym"}
    assert (contract.person.kind != "nobody") or keys <= {"tombstone"}


def test_a_contract_without_a_link_to_a_person_does_not_load() -> None:
    text = (Path(__file__).parents[2] / "schemas" / "tables" / "verdicts.yaml").read_text(encoding="utf-8")
    with pytest.raises(ValueError, match="an erasure could not find the rows of a person"):
        parse_contract(text.replace("    customProperties: [{property: person, value: nobody}]\n", ""))


@pytest.mark.soak
def test_erased_users_are_removed_from_every_file_and_do_not_reappear(lender: Lender) -> None:
    before = lender.user_ids("behavior_events")
    assert len(before) == CLIENTS
    file = lender.home / "users.txt"
    file.write_text("".join(f"RAWCLIENT{client:04}\n" for client in range(ERASED)) + "RAWCLIENT9999\n")
    old = latest_version(lender.paths, "behavior_events")
    command = ["erase", "--users", str(file), "--recipe", str(lender.recipe_file), "--verify"]
    answer = CliRunner().invoke(app, command)
    assert answer.exit_code == 0, answer.output
    (record,) = erasures(lender.root)
    assert (record.users, len(record.not_found)) == (ERASED + 1, 1)
    assert f"1 of {ERASED + 1} ids were in no table (lines {ERASED + 1} of" in " ".join(answer.output.split())
    assert "RAWCLIENT9999" not in answer.output
    assert record.rows["behavior_events"] == ERASED * 8
    assert record.rows["user_timelines"] == ERASED
    assert record.rows["behavior_features"] == record.rows["user_sequences"] > 0
    assert record.rows["quarantine"] == ERASED * 4
    kept = lender.user_ids("behavior_events")
    assert (len(kept), kept < before) == (CLIENTS - ERASED, True)
    stored = everything_on(lender.root)
    assert not any(user_id in stored for user_id in before - kept)
    assert all(user_id in stored for user_id in kept)

    with pytest.raises(ConfigError, match=f"version {old} was removed by erasure {record.erasure_id}"):
        arrow_pinned(lender.paths, "behavior_events", old)

    before_it = lender.run("before", until="build_features")  # it was not finished: its steps are built again
    assert {before_it.reruns(step) for step in ("ingest_events", "build_sequences", "build_features")} == {1}
    assert lender.user_ids("user_sequences") == lender.user_ids("behavior_features") <= kept
    again = lender.run("after", until="ingest_events")
    outcome = again.outcome("ingest_events")
    assert outcome is not None
    assert outcome.tables["behavior_events"]["dropped"]["erased"] == ERASED * 10
    assert outcome.tables["raw_planted"]["dropped"]["erased"] == ERASED * 3
    stored = everything_on(lender.root)
    assert not any(user_id in stored for user_id in before - kept)


@pytest.mark.soak
def test_the_verification_names_the_file_that_still_holds_a_key(lender: Lender) -> None:
    traces = Traces(pseudonyms=frozenset({"ab" * 32}), raw_ids=frozenset({"RAWCLIENT9999", "7"}))
    assert verify_erased(lender.paths, traces).left == {}
    forgotten = lender.root / "forgotten.log"
    forgotten.write_text("x" * (1 << 22) + f" {'ab' * 32} of RAWCLIENT9999 ")
    try:
        result = verify_erased(lender.paths, traces)
    finally:
        forgotten.unlink()
    assert (result.left, result.too_short) == ({forgotten: 2}, 1)


@pytest.mark.soak
def test_a_verification_that_misses_planted_keys_fails(lender: Lender, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zigong.erasure.verify._plant", lambda folder, _: folder.mkdir())
    with pytest.raises(DataError, match="did not find planted keys"):
        verify_erased(lender.paths, Traces(pseudonyms=frozenset()))


@pytest.mark.soak
@pytest.mark.parametrize(("content", "complaint"), [("", "holds no id"), ("abc\n", "not pseudonyms")])
def test_a_request_without_ids_is_refused(lender: Lender, tmp_path: Path, content: str, complaint: str) -> None:
    (tmp_path / "users.txt").write_text(content)
    command = ["erase", "--users", str(tmp_path / "users.txt"), "--pseudonyms", "--recipe", str(lender.recipe_file)]
    answer = CliRunner().invoke(app, command)
    assert (answer.exit_code, complaint in " ".join(answer.output.split())) == (2, True), answer.output
