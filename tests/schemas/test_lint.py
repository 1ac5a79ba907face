"""Lint reports every fault of a contract with its place, independently of other faults."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest
import yaml
from pyspark.sql import SparkSession
from typer.testing import CliRunner

from schemas.contracts import contract_text, parse_contract, table_names
from schemas.findings import WARNING, LintFinding
from schemas.lint import Lint, known_columns, lint_contract
from tests.support.contract_text import KEY, LINK, TEXT, changed
from zigong.cli import app
from zigong.quality.conditions import condition_findings

STATE, MEMBERS, POSITIVE = (
    "column state: rule state_is_known",
    "rule samples_are_members",
    "rule amount_is_positive",
)
UNKEYED = "customProperties: [{property: key, value: none}]"
# old text, new text, and the expected place and content of the finding
DOCUMENT_FAULTS = [
    ("status: active", "status: [active", "line", ""),
    ("status: active", "status: active\nstatus: draft", "line 2", "duplicate field status"),
    ("status: active", "statis: active", "file", "unknown field statis"),
    ("apiVersion: v3.1.0", "apiVersion: v3.0.2", "apiVersion", "v3.0.2"),
    ("version: 1.0.0", "version: 1.0", "version", "1.0"),
    ("version: 1.0.0", "version: '1.0'", "version", "1.0"),
    ("id: loans", "id: lones", "id", "lones"),
    ("  purpose: Loans of clients.\n", "", "description.purpose", "nothing"),
    ("  usage: One row per loan.\n", "", "description.usage", "nothing"),
    ("    physicalType: table", "    physicalType: table\n    extent: 3", "schema[loans]", "unknown field extent"),
    ("physicalType: double", "phisicalType: double", "schema[loans].properties[amount]", "unknown field phisicalType"),
    ("physicalType: double", "required: maybe", "schema[loans].properties[amount].required", "'maybe'"),
    ("physicalType: double", "", "column amount", "no physicalType"),
    ("description: its amount", "", "column amount", "no description"),
    ("      - name: amount\n", "      - name: month\n", "column month", "2 columns of this name"),
    ("classification: quasi_identifier", "classification: secret", "column amount", "classification secret"),
    ("classification: quasi_identifier", "", "column amount", "classification None"),
    ("classification: quasi_identifier", "classification: direct_identifier", "column amount", "direct_identifier"),
    (KEY, "", "key", "no primary key"),
    (KEY, "        primaryKey: true\n", "column loan_id", "primaryKeyPosition None"),
    (KEY, KEY.replace("1", "2"), "key", "primaryKeyPosition 2"),
    ("        required: true\n" + KEY, KEY, "column loan_id", "of the key that may be null"),
    ("        required: true\n        part", "        part", "column month", "of the partition that may be null"),
    (
        "physicalType: table",
        "physicalType: table\n    customProperties: [{property: key, value: none}]",
        "key",
        "together with",
    ),
    ("        relationships: [{to: dataset_members.sample_id}]\n", "", "person", "no user_id"),
    (LINK, "relationships: [{to: m.sample_id}]", "column sample_id", "no table m"),
    (LINK, "relationships: [{to: dataset_members.id}]", "column sample_id", "no column id"),
    (LINK, "relationships: [{to: dataset_members.label}]", "column sample_id", "string to"),
    ("            description: two states\n", "", STATE, "no description"),
    ("          - name: state_is_known\n            type", "          - type", "column state: rule 1", "no name"),
    ("metric: invalidValues", "metric: nullValues", STATE, "metric nullValues"),
    ("validValues: [open, closed]", "validValues: []", STATE, "validValues []"),
    ("validValues: [open, closed]", "validValues: [open, open]", STATE, "open"),
    ("            mustBe: 0\n            arg", "            mustBe: 3\n            arg", STATE, "mustBe 3"),
    ("        description: a lender has loans\n", "", "rule has_rows", "no description"),
    ("      - name: has_rows\n        type", "      - type", "rule 1 without a name", "no name"),
    ("- name: has_rows", "- name: recent", "rule recent", "2 rules of this name"),
    ("- name: has_rows", "- name: key_is_unique", "rule key_is_unique", "2 rules of this name"),
    ("- name: has_rows", "- name: loan_id_is_present", "rule loan_id_is_present", "2 rules of this name"),
    ("metric: rowCount", "metric: nullValues", "rule has_rows", "metric nullValues"),
    ("engine: spark-row", "engine: soda", POSITIVE, "engine soda"),
    ("implementation: amount > 0", "implementation: ''", POSITIVE, "implementation ''"),
    ("severity: quarantine", "severity: fatal", POSITIVE, "severity fatal"),
    ("severity: warn", "severity: quarantine", "rule mostly_open", "severity quarantine"),
    ("measure: share", "measure: shares", "rule mostly_open", "measure shares"),
    ("measure: age_days, of", "measure: age_days, from", "rule recent", "age_days with from"),
    ("mustBeBetween: [0.1, 0.9]", "mustBeBetween: [0.9, 0.1]", "rule mostly_open", "bounds 0.9 to 0.1"),
    ("        mustBeLessOrEqualTo: 40\n", "", "rule recent", "no bound"),
    ("mustBeLessOrEqualTo: 40", "mustBeLessThan: 40", "rule recent", "mustBeLessThan"),
    ("column: sample_id, to", "column: sample, to", MEMBERS, "column sample"),
    (
        "to: dataset_members.sample_id}\n        must",
        "to: members.sample_id}\n        must",
        MEMBERS,
        "no table members",
    ),
    ("{holds: count", "{hold: count", "rule one_answer", "implementation"),
]
SQL_FAULTS = [
    ("physicalType: double", "physicalType: dobule", "column amount", "physicalType dobule"),
    ("implementation: amount > 0", "implementation: amount >", POSITIVE, "Syntax error"),
    (
        "implementation: amount > 0",
        "implementation: amont > 0",
        POSITIVE,
        "`amont` cannot be resolved",
    ),
    ("implementation: amount > 0", "implementation: amount + 1", POSITIVE, "amount + 1 is double"),
    ("implementation: amount > 0", "implementation: sum(amount) > 0", POSITIVE, "sum(amount)"),
    ("implementation: amount > 0", "implementation: 1=1) OR (1=1", POSITIVE, "Syntax error"),
    ("of: state = 'open'", "of: stat = 'open'", "rule mostly_open", "`stat` cannot be resolved"),
    ("among: amount > 10", "among: amount", "rule mostly_open", "amount is double"),
    ("of: month", "of: state", "rule recent", "state is string"),
    ("count(DISTINCT completion) = 1", "count(DISTINCT completion = 1", "rule one_answer", "Syntax error"),
]


@cache
def shipped() -> dict[str, dict[str, str]]:
    return known_columns()


def linted(text: str) -> Lint:
    return lint_contract(text, file="loans.yaml", known=shipped())


def lint(text: str) -> list[LintFinding]:
    return list(linted(text).findings)


def sql_findings(spark: SparkSession, text: str) -> list[LintFinding]:
    return condition_findings(spark, linted(text))


def reported(findings: list[LintFinding], where: str, found: str) -> bool:
    return any(one.where.startswith(where) and found in one.found and one.expected for one in findings)


def test_a_contract_without_a_fault_has_no_finding(spark: SparkSession) -> None:
    assert lint(TEXT) == []
    assert sql_findings(spark, TEXT) == []


@pytest.mark.parametrize(("old", "new", "where", "found"), DOCUMENT_FAULTS)
def test_a_fault_is_reported_with_its_place(old: str, new: str, where: str, found: str) -> None:
    findings = lint(changed((old, new)))
    assert reported(findings, where, found), findings


def test_each_sql_fault_is_reported_with_its_rule(spark: SparkSession) -> None:
    for old, new, where, found in SQL_FAULTS:
        findings = sql_findings(spark, changed((old, new)))
        assert reported(findings, where, found), (new, findings)
        assert len(findings) == 1, findings


def test_one_fault_hides_no_other() -> None:
    planted = {
        "description.usage": ("  usage: One row per loan.\n", ""),
        "column amount": ("classification: quasi_identifier", "classification: secret"),
        "schema[loans].properties[amount].required": (
            "physicalType: double",
            "physicalType: double\n        required: 3",
        ),
        "column month": ("        required: true\n        part", "        part"),
        "rule has_rows": ("        description: a lender has loans\n", ""),
        "rule mostly_open": ("measure: share", "measure: shares"),
    }
    findings = lint(changed(*planted.values()))
    assert {finding.where for finding in findings} == set(planted)


def test_a_contract_that_does_not_load_is_never_clean() -> None:
    for old, new, _, _ in DOCUMENT_FAULTS:
        text = changed((old, new))
        try:
            parse_contract(text)
        except (ValueError, KeyError, TypeError, yaml.YAMLError):
            assert linted(text).errors, new


def test_an_unknown_custom_property_is_a_warning() -> None:
    text = changed(("physicalType: table", "physicalType: table\n    customProperties: [{property: owner, value: x}]"))
    assert [finding.severity for finding in lint(text)] == [WARNING]


def test_the_shipped_contracts_are_clean(spark: SparkSession) -> None:
    lints = [lint_contract(contract_text(name), file=name, known=shipped()) for name in table_names()]
    assert {one.file: one.findings for one in lints if one.findings} == {}
    assert {one.file: found for one in lints if (found := condition_findings(spark, one))} == {}


def test_the_command_ends_with_the_code_of_a_config_error(spark: SparkSession, tmp_path: Path) -> None:
    good, bad = tmp_path / "good.yaml", tmp_path / "bad.yaml"
    good.write_text(TEXT)
    bad.write_text(changed(("amount > 0", "amont > 0"), ("        description: a lender has loans\n", "")))
    assert CliRunner().invoke(app, ["contract", "lint", str(good)]).exit_code == 0
    failed = CliRunner().invoke(app, ["contract", "lint", str(good), str(bad)])
    assert (failed.exit_code, "2 errors" in failed.stderr) == (2, True), failed.stderr
