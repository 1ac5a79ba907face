"""Mappings accept known keys only; a mistake is reported with file, field and what is allowed."""

from __future__ import annotations

from pathlib import Path

import pytest

from schemas.mappings import load_mapping, mapping_names, parse_mapping

GOOD = """
name: toy
data: public
title: toy
files: {rows: {path: rows.csv, format: csv, columns: {A: {type: int, required: true}}}}
events: SELECT 1
profiles: SELECT 1
known_at: {lag: INTERVAL 1 DAY}
outcome_events: [paid, closed]
closing_events: [closed]
"""


def test_every_shipped_mapping_loads_under_its_own_name() -> None:
    assert {"australian", "credit_record", "german", "simulated", "taiwan"} <= set(mapping_names())
    for name in mapping_names():
        mapping = load_mapping(name)
        assert mapping.name == name
        assert mapping.known_at_basis == ("measured" if name == "simulated" else "assumed")


def test_a_mapping_file_loads_by_path(tmp_path: Path) -> None:
    path = tmp_path / "toy.yaml"
    path.write_text(GOOD)
    assert load_mapping(path) == load_mapping(str(path))
    assert load_mapping(path).files[0].columns[0].required


@pytest.mark.parametrize(
    ("found", "put", "complaint"),
    [
        ("title: toy", "title: toy\ncolour: red", "toy.yaml: colour: unknown key; allowed here: name, data, title"),
        ("title: toy\n", "", "toy.yaml: title is missing; required here: name, data, title"),
        (
            "required: true",
            "needed: true",
            "toy.yaml: files.rows.columns.A.needed: unknown key; allowed here: type",
        ),
        (
            "required: true",
            "required: yes please",
            "rows.columns.A.required: Input should be a valid boolean; found 'yes please'",
        ),
        ("type: int", "type: number", "A.type: expected one of int, bigint"),
        ("data: public", "data: secret", "data: Input should be 'simulated', 'public' or 'private'; found 'secret'"),
        ("format: csv", "format: xml", "format: Input should be 'csv', 'json', 'parquet' or 'delta'"),
        ("format: csv", "format: csv, separator: '||'", "separator: expected one character, found '||'"),
        ("format: csv", "format: json, header: false", "header: expected no such option"),
        ("{lag: INTERVAL 1 DAY}", "{lag: INTERVAL 1 DAY, column: known_at}", "known_at: expected exactly one of"),
        ("INTERVAL 1 DAY", "1; DROP TABLE x", "lag: expected an interval"),
        ("[closed]", "[gone]", "closing_events: expected types out of outcome_events"),
        ("[paid, closed]", "[Paid Up]", "outcome_events.0: expected a lower-case word, found 'Paid Up'"),
        ("[paid, closed]", "[]", "outcome_events: List should have at least 1 item"),
        ("files: {rows: {", "files: {rows: 1, more: {", "files.rows: expected a section with path, format, columns"),
        ("files: {rows: {", "derived: {rows: SELECT 1}\nfiles: {rows: {", "need distinct names, found rows"),
        ("required: true", "required: true, minimum: x", "A.minimum: Input should be a valid number"),
        ("type: int", "type: string, minimum: 0", "A.minimum: expected no such bound, because string is not a number"),
        (
            "title: toy",
            "title: toy\nattributes: {shop: text}",
            "attributes.shop: Input should be 'code' or 'free_text'",
        ),
        ("title: toy", "title: [", "not valid YAML"),
        ("title: toy", "title: toy\ndata: public", "expected each key once, found 'data' again"),
        ("format: csv", "format: csv, encoding: ansi-1", "encoding: expected an encoding such as utf-8, windows-1252"),
        ("format: csv", "format: parquet, encoding: utf-8", "encoding: expected no such option"),
        ("format: csv", "format: json, skip_lines: 1", "skip_lines: expected no such option"),
        ("format: csv", "format: csv, skip_lines: -1", "skip_lines: Input should be greater than or equal to 0"),
        ("{A: {", "{_line: {", "columns: expected other names than _file, _line, found _line"),
    ],
)
def test_a_mistake_is_named_with_its_field(found: str, put: str, complaint: str) -> None:
    assert found in GOOD
    with pytest.raises(ValueError, match="toy") as error:
        parse_mapping(GOOD.replace(found, put), origin="toy.yaml")
    assert str(error.value).startswith("toy.yaml")
    assert complaint in str(error.value)


def test_texts_in_lists_and_keys_stay_as_they_are_written() -> None:
    written = "no, NULL, 0123, 1_000, 12:30, 1.10, 2023-01-01, '7'"
    wider = GOOD.replace(
        "format: csv, columns: {A:", f"format: csv, null_values: [{written}], columns: {{NO: {{type: date}}, A:"
    )
    (file,) = parse_mapping(wider, origin="toy.yaml").files
    assert file.null_values == ("no", "NULL", "0123", "1_000", "12:30", "1.10", "2023-01-01", "7")
    assert [column.name for column in file.columns] == ["NO", "A"]


def test_all_mistakes_of_a_mapping_are_reported_at_once() -> None:
    wrong = GOOD.replace("data: public", "data: secret").replace("type: int", "type: number")
    with pytest.raises(ValueError, match="toy") as error:
        parse_mapping(wrong, origin="toy.yaml")
    assert [line.split(": ")[1] for line in str(error.value).splitlines()] == ["data", "files.rows.columns.A.type"]


def test_attributes_are_free_text_unless_declared_codes() -> None:
    assert parse_mapping(GOOD, origin="toy.yaml").attribute_codes == ()
    declared = GOOD + "attributes: {channel: code, note: free_text}\n"
    assert parse_mapping(declared, origin="toy.yaml").attribute_codes == ("channel",)


def test_an_unknown_name_lists_the_shipped_mappings() -> None:
    with pytest.raises(ValueError, match="australian, credit_record, german, simulated, taiwan"):
        load_mapping("no_such_source")


@pytest.mark.parametrize("path", ["/proc/self/environ", "../rows.csv", "a/../../b", "~/rows.csv", "file:/etc/passwd"])
def test_a_file_outside_the_source_folder_is_refused(path: str) -> None:
    with pytest.raises(ValueError, match=r"files.rows.path: expected a path below source.path, found "):
        parse_mapping(GOOD.replace("rows.csv", path), origin="toy.yaml")


def test_an_identifier_that_a_double_would_round_is_refused() -> None:
    with pytest.raises(ValueError, match=r"files.rows.columns.A: expected string, bigint or decimal"):
        parse_mapping(GOOD.replace("type: int", "type: double, identifier: true"), origin="toy.yaml")
