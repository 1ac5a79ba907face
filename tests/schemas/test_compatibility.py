"""Each change of a contract breaks the expected side, producers or consumers, in each direction."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from schemas.compatibility import compare_contracts
from schemas.contracts import parse_contract
from tests.support.contract_text import KEY, LINK, TEXT, changed
from zigong.cli import app

NOTE = """      - name: note
        logicalType: string
        physicalType: string
        classification: none
        description: a note
"""
QUALITY = "    quality:\n      - name: has_rows"
ROW_RULE = """      - name: amount_is_small
        type: custom
        engine: spark-row
        implementation: amount < 9
        severity: SEVERITY
        description: small
"""
STATE_CLASS = "classification: none\n        description: its state"
NO_STRANGER = "mustBe: 0\n        description: a sample"
UNMATCHED = "column: sample_id, to: dataset_members"


def swap(text: str, old: str, new: str) -> tuple[str, str]:
    return text, text.replace(old, new)


def with_rule(severity: str) -> tuple[str, str]:
    return "      - name: has_rows", ROW_RULE.replace("SEVERITY", severity) + "      - name: has_rows"


# (there, back): what breaks, of the change and of its reverse; "" breaks nobody
CHANGES = [
    ((QUALITY, NOTE + QUALITY), "", "both"),
    ((QUALITY, NOTE.replace("class", "required: true\n        class") + QUALITY), "producers", "both"),
    (("physicalType: double", "physicalType: float"), "producers", "consumers"),
    (("physicalType: double", "physicalType: string"), "both", "both"),
    (("        required: true\n        part", "        part"), "consumers", "producers"),
    (swap(STATE_CLASS, "none", "free_text"), "consumers", "producers"),
    ((KEY, ""), "both", "both"),
    (("        partitioned: true\n        partitionKeyPosition: 1\n", ""), "both", "both"),
    (swap(LINK, "dataset_members", "influence_scores"), "both", "both"),
    (("name: loans\n    physical", "name: lent\n    physical"), "both", "both"),
    (with_rule("quarantine"), "producers", ""),
    (with_rule("block"), "producers", ""),
    (with_rule("warn"), "", ""),
    (("implementation: amount > 0", "implementation: amount > 1"), "producers", "producers"),
    (("severity: quarantine", "severity: block"), "producers", ""),
    (("severity: quarantine", "severity: warn"), "", "producers"),
    (("mustBeGreaterThan: 0", "mustBeGreaterThan: 9"), "producers", ""),
    (swap(NO_STRANGER, "mustBe: 0", "mustBeLessOrEqualTo: 5"), "", "producers"),
    (swap(NO_STRANGER, "mustBe: 0", "mustBeBetween: [0, 5]"), "", "producers"),
    (swap(UNMATCHED, "dataset_members", "influence_scores"), "producers", "producers"),
    (("mustBeLessOrEqualTo: 40", "mustBeLessOrEqualTo: 30"), "", ""),
    (("validValues: [open, closed]", "validValues: [open, closed, sold]"), "", "producers"),
    (("validValues: [open, closed]", "validValues: [open, sold]"), "producers", "producers"),
    (("count(DISTINCT completion) = 1", "count(DISTINCT completion) = 2"), "producers", "producers"),
    (("- name: amount_is_positive", "- name: amount_above_zero"), "", ""),
]
WORDINGS = [
    ("description: its amount", "description: the amount"),
    ("purpose: Loans of clients.", "purpose: Loans."),
    ("description: a lender has loans", "description: loans are there"),
]


def broken(old: str, new: str) -> set[str]:
    changes = compare_contracts(parse_contract(old), parse_contract(new)).changes
    assert changes
    people = {change.breaks for change in changes} - {""}
    return {"producers", "consumers"} if "both" in people else people


def names(breaks: str) -> set[str]:
    return {"producers", "consumers"} if breaks == "both" else {breaks} - {""}


@pytest.mark.parametrize(("change", "there", "back"), CHANGES)
def test_a_change_and_its_reverse_break_the_expected_sides(change: tuple[str, str], there: str, back: str) -> None:
    after = changed(change)
    assert broken(TEXT, after) == names(there)
    assert broken(after, TEXT) == names(back)


@pytest.mark.parametrize("change", WORDINGS)
def test_a_change_of_wording_is_a_patch(change: tuple[str, str]) -> None:
    assert compare_contracts(parse_contract(TEXT), parse_contract(changed(change))).bump == "patch"


def test_equal_contracts_have_no_change_and_need_no_version() -> None:
    verdict = compare_contracts(parse_contract(TEXT), parse_contract(TEXT))
    assert (verdict.changes, verdict.bump, verdict.version_fault) == ((), "", "")


@pytest.mark.parametrize(
    ("change", "allowed", "refused"),
    [
        (CHANGES[1][0], ("2.0.0", "3.1.0"), ("1.0.0", "1.0.1", "1.9.0", "0.9.0")),
        (CHANGES[0][0], ("1.1.0", "2.0.0"), ("1.0.0", "1.0.7", "0.9.0")),
        (WORDINGS[0], ("1.0.1", "1.1.0"), ("1.0.0", "0.9.9")),
    ],
)
def test_the_version_bump_must_be_as_large_as_the_change(
    change: tuple[str, str], allowed: tuple[str, ...], refused: tuple[str, ...]
) -> None:
    def fault(version: str) -> str:
        after = changed(change, ("version: 1.0.0", f"version: {version}"))
        return compare_contracts(parse_contract(TEXT), parse_contract(after)).version_fault

    assert [version for version in allowed if fault(version)] == []
    assert [version for version in refused if not fault(version)] == []


@pytest.mark.parametrize(("version", "code"), [("1.0.0", 2), ("2.0.0", 0)])
def test_the_command_refuses_a_breaking_change_without_a_major_bump(tmp_path: Path, version: str, code: int) -> None:
    old, new = tmp_path / "old.yaml", tmp_path / "new.yaml"
    old.write_text(TEXT)
    new.write_text(changed(CHANGES[1][0], ("version: 1.0.0", f"version: {version}")))
    result = CliRunner().invoke(app, ["contract", "diff", str(old), str(new)])
    assert (result.exit_code, "breaking, a major change" in result.stderr) == (code, True), result.stderr
