"""Finds all problems of a contract that can be detected without Spark, in one pass."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from open_data_contract_standard.model import OpenDataContractStandard, SchemaObject, SchemaProperty

from schemas.contracts import CLASSES, Rule, contract_text, parse_contract, person_link, table_names
from schemas.findings import ERROR, WARNING, LintFinding
from schemas.lint_document import read_document
from schemas.lint_rules import rule_findings
from schemas.rules import TableRule
from schemas.versions import version_numbers

# The custom properties of a table. `key: none` declares that its rows have no key.
CUSTOM_PROPERTIES = ("person", "key", "access")

# Spark types by column, of every table that a relationship may reference.
Columns = Mapping[str, Mapping[str, str]]


@dataclass(frozen=True, kw_only=True)
class Lint:
    """The findings on one contract, and its readable parts: types by column, and rules, whose SQL Spark can check."""

    file: str
    findings: tuple[LintFinding, ...]
    columns: Mapping[str, str]
    rules: tuple[Rule, ...]

    @property
    def errors(self) -> int:
        """Number of findings that are errors."""
        return sum(finding.severity == ERROR for finding in self.findings)


def known_columns(texts: Iterable[str] = ()) -> dict[str, dict[str, str]]:
    """The columns of the shipped tables, and of contracts given as ``texts``, which replace those of the same name."""
    known = {}
    for text in (*(contract_text(name) for name in table_names()), *texts):
        document, _ = read_document(text)
        for table in (document.schema_ if document else None) or []:
            known[str(table.name)] = _types(table)
    return known


def lint_contract(text: str, *, file: str, known: Columns) -> Lint:
    """Checks a complete contract: one finding does not hide another.

    Args:
        text: the contract.
        file: name of the contract for the user.
        known: columns of the tables it may reference, from ``known_columns``.
    """
    document, findings = read_document(text)
    tables = (document.schema_ if document else None) or []
    if document is not None:
        findings += _header(document)
        if len(tables) != 1:
            findings.append(LintFinding(where="schema", found=f"{len(tables)} tables", expected="exactly one table"))
    rules: list[Rule] = []
    if tables:
        of_rules, rules = rule_findings(tables[0])
        findings += [*_table(tables[0], known), *of_rules, *_unmatched(tables[0], rules, known)]
    if not any(finding.severity == ERROR for finding in findings):
        findings += _unloadable(text)
    return Lint(
        file=file,
        findings=tuple(dict.fromkeys(findings)),
        columns=_types(tables[0]) if tables else {},
        rules=tuple(rules),
    )


def _types(table: SchemaObject) -> dict[str, str]:
    return {item.name: item.physicalType or "" for item in table.properties or [] if item.name}


def _unloadable(text: str) -> list[LintFinding]:
    """The error of loading a contract in which no other check found an error."""
    try:
        parse_contract(text)
    except (ValueError, KeyError, TypeError) as error:
        return [LintFinding(where="contract", found=str(error), expected="a contract that loads")]
    return []


def _header(document: OpenDataContractStandard) -> Iterator[LintFinding]:
    if version_numbers(document.version or "") is None:
        yield LintFinding(where="version", found=str(document.version), expected="MAJOR.MINOR.PATCH, such as 1.2.0")
    description = document.description
    for part in ("purpose", "usage"):
        if not (getattr(description, part, None) or "").strip():
            yield LintFinding(
                where=f"description.{part}", found="nothing", expected=f"the {part} of the table in a sentence"
            )
    for table in document.schema_ or []:
        for part, name in (("id", document.id), ("name", document.name)):
            if name != table.name:
                yield LintFinding(where=part, found=str(name), expected=f"the name of the table, {table.name}")


def _table(table: SchemaObject, known: Columns) -> Iterator[LintFinding]:
    items = table.properties or []
    if not items:
        yield LintFinding(where="properties", found="no columns", expected="at least one column")
    for name, count in Counter(item.name for item in items if item.name).items():
        if count > 1:
            yield LintFinding(where=f"column {name}", found=f"{count} columns of this name", expected="a unique name")
    for position, item in enumerate(items):
        yield from _column(item, position)
    yield from _placed(items, "primaryKey", "primaryKeyPosition", "key")
    yield from _placed(items, "partitioned", "partitionKeyPosition", "partition")
    yield from _custom(table)
    for item in items:
        yield from _relationships(item, known)
    if table.relationships:
        yield LintFinding(
            where="relationships", found="a relationship of the table", expected="relationships of columns"
        )
    try:
        person_link(table)
    except ValueError as error:
        yield LintFinding(
            where="person", found=str(error), expected="a link from every row to its person, or person: nobody"
        )


def _column(item: SchemaProperty, position: int) -> Iterator[LintFinding]:
    where = f"column {item.name or position + 1}"
    if not item.name:
        yield LintFinding(where=where, found="no name", expected="a name")
    if not item.physicalType:
        yield LintFinding(where=where, found="no physicalType", expected="a Spark type")
    if not (item.description or "").strip():
        yield LintFinding(where=where, found="no description", expected="a description of the column")
    allowed = [name for name in CLASSES if name != "direct_identifier"]
    if item.classification not in allowed:
        yield LintFinding(
            where=where, found=f"classification {item.classification}", expected=f"classification: {', '.join(allowed)}"
        )


def _placed(items: list[SchemaProperty], flag: str, position: str, part: str) -> Iterator[LintFinding]:
    """Columns of the key, or of the partitions: flagged, numbered 1, 2, ... and never null."""
    places = []
    for item in items:
        flagged, place = bool(getattr(item, flag)), getattr(item, position)
        if flagged != (place is not None):
            yield LintFinding(
                where=f"column {item.name}",
                found=f"{flag} {str(flagged).lower()}, {position} {place}",
                expected=f"{flag}: true and a {position}, or neither",
            )
        if place is not None:
            places.append(place)
        if (flagged or place is not None) and not item.required:
            yield LintFinding(
                where=f"column {item.name}", found=f"a column of the {part} that may be null", expected="required: true"
            )
    if sorted(places) != list(range(1, len(places) + 1)):
        yield LintFinding(
            where=part,
            found=f"{position} {', '.join(map(str, places))}",
            expected=f"1 to {len(places)}, without duplicates",
        )


def _custom(table: SchemaObject) -> Iterator[LintFinding]:
    properties = [(item.property, item.value) for item in table.customProperties or []]
    for name, _ in properties:
        if name not in CUSTOM_PROPERTIES:
            yield LintFinding(
                where=f"custom property {name}",
                found="an unknown property",
                expected=", ".join(CUSTOM_PROPERTIES),
                severity=WARNING,
            )
    keyed = any(item.primaryKey or item.primaryKeyPosition is not None for item in table.properties or [])
    declared = [value for name, value in properties if name == "key"]
    if declared and (keyed or declared != ["none"]):
        found = f"custom property key {declared[0]}" + (" together with a primary key" if keyed else "")
        yield LintFinding(where="key", found=found, expected="a primary key, or the custom property key: none")
    if not keyed and not declared:
        yield LintFinding(
            where="key", found="no primary key", expected="a primary key, or the custom property key: none"
        )


def _relationships(item: SchemaProperty, known: Columns) -> Iterator[LintFinding]:
    for relation in item.relationships or []:
        yield from _references(f"column {item.name}", str(relation.to), item.physicalType or "", known)


def _references(where: str, to: str, type_: str, known: Columns) -> Iterator[LintFinding]:
    """A reference ``TABLE.COLUMN`` must name a column of a contracted table with the same type."""
    table, _, column = to.partition(".")
    if table not in known:
        yield LintFinding(where=where, found=f"to {to}: no table {table}", expected="the name of a contract")
    elif column not in known[table]:
        yield LintFinding(where=where, found=f"to {to}: no column {column}", expected=f"a column of {table}")
    elif type_ and known[table][column] != type_:
        yield LintFinding(
            where=where, found=f"{type_} to {to}: {known[table][column]}", expected="columns of the same type"
        )


def _unmatched(table: SchemaObject, rules: Iterable[Rule], known: Columns) -> Iterator[LintFinding]:
    types = _types(table)
    for rule in rules:
        if isinstance(rule, TableRule) and rule.measure == "unmatched":
            column, where = str(rule.arguments["column"]), f"rule {rule.name}"
            if column not in types:
                yield LintFinding(where=where, found=f"column {column}", expected="a column of the table")
            yield from _references(where, str(rule.arguments["to"]), types.get(column, ""), known)
