"""Reads the ODCS contracts of the tables into small frozen values.

The contract is the only place that lists the columns, key, partitions and rules of a table; Spark schemas, row rules,
GX suites and docs are derived from the values this module returns.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files
from pathlib import Path

from open_data_contract_standard.model import OpenDataContractStandard, SchemaObject, SchemaProperty
from pydantic import ValidationError

from schemas.documents import explain, yaml_content
from schemas.rules import DatasetRule, RowRule, TableRule, column_rules, entry_rule, key_rule

# Privacy classes of columns. Tables hold no direct identifier: raw ids become pseudonyms at ingest.
CLASSES = {
    "direct_identifier": "names a person by itself: name, raw client number, card, phone, national id",
    "pseudonym": "keyed digest of a raw id, or a digest computed from one",
    "quasi_identifier": "describes a person; combined with other knowledge it may identify one",
    "free_text": "text that persons may have written; masked at ingest",
    "none": "no information about a person",
}

Rule = RowRule | TableRule | DatasetRule

CONTRACT_SUFFIXES = (".yaml", ".yml")


@dataclass(frozen=True, kw_only=True)
class Column:
    """One column: its Spark type, whether it may be null and its class (a key of ``CLASSES``).

    Attributes:
        former_name: what it was called before; ``zigong migrate`` renames it.
    """

    name: str
    type: str
    required: bool
    classification: str
    description: str
    former_name: str = ""


@dataclass(frozen=True, kw_only=True)
class PersonLink:
    """How the rows of a table lead to the person they are about, so that an erasure finds them.

    Attributes:
        kind: ``user_id`` (the column itself), ``link`` (a key of another table), ``text`` (pseudonyms occur in a
            text) or ``nobody`` (no row is about a person).
        column: the column with the user_id, key or text; empty for ``nobody``.
        table: for a link, the table that maps the key to user_id.
    """

    kind: str
    column: str = ""
    table: str = ""


@dataclass(frozen=True, kw_only=True)
class Retention:
    """How long rows are kept: maintenance deletes those whose ``column`` is more than ``days`` days ago."""

    column: str
    days: int


@dataclass(frozen=True, kw_only=True)
class Relationship:
    """A foreign key: the values of a column are values of a column of another table."""

    column: str
    table: str
    target: str


@dataclass(frozen=True, kw_only=True)
class TableContract:
    """The contract of a table, read from ``schemas/tables/NAME.yaml``."""

    name: str
    version: str
    purpose: str
    usage: str
    columns: tuple[Column, ...]
    key: tuple[str, ...]
    partitions: tuple[str, ...]
    row_rules: tuple[RowRule, ...]
    table_rules: tuple[TableRule, ...]
    dataset_rules: tuple[DatasetRule, ...]
    person: PersonLink
    restricted: bool  # only the owner of the lakehouse may read its files
    retention: Retention | None
    relationships: tuple[Relationship, ...]
    digest: str

    @property
    def column_names(self) -> tuple[str, ...]:
        """Names of the columns in the order of the contract."""
        return tuple(column.name for column in self.columns)

    @property
    def rules(self) -> tuple[Rule, ...]:
        """All rules: of rows, of the staged table, of the dataset."""
        return (*self.row_rules, *self.table_rules, *self.dataset_rules)

    @property
    def ddl(self) -> str:
        """The Spark DDL of the columns, without constraints."""
        return ", ".join(f"`{column.name}` {column.type}" for column in self.columns)

    def when_empty(self) -> TableContract:
        """The same contract for partitions that may have no rows, such as a night without events."""
        return replace(self, table_rules=tuple(rule for rule in self.table_rules if rule.measure != "rows"))

    @property
    def rules_version(self) -> str:
        """Version and digest that identify the rules of a verdict."""
        return f"{self.version}+{self.digest[:12]}"


def table_names() -> tuple[str, ...]:
    """Names of all contracted tables, sorted."""
    return tuple(sorted(entry.name.removesuffix(".yaml") for entry in files("schemas").joinpath("tables").iterdir()))


@cache
def table_contract(name: str) -> TableContract:
    """Reads the contract of one table.

    Raises:
        KeyError: no contract has this name.
    """
    return parse_contract(contract_text(name))


def contract_text(name_or_path: str) -> str:
    """The text of a shipped contract by the name of its table, or of any contract file by its path.

    Raises:
        KeyError: neither exists.
    """
    path = Path(name_or_path)
    if path.suffix in CONTRACT_SUFFIXES:
        if not path.is_file():
            raise KeyError(f"no contract file {path}")
        return path.read_text(encoding="utf-8")
    resource = files("schemas").joinpath("tables", f"{name_or_path}.yaml")
    if not resource.is_file():
        raise KeyError(f"no contract for table {name_or_path!r}; known: {', '.join(table_names())}")
    return resource.read_text(encoding="utf-8")


def parse_contract(text: str) -> TableContract:
    """Parses the text of an ODCS v3 contract with exactly one schema object.

    Raises:
        ValueError: it is not YAML, or not an ODCS contract; a column has no class, or one that a table may not have;
            rows do not lead to a person; a quality entry is not supported, or two have the same name.
    """
    document = _document(text)
    (table,) = document.schema_ or []
    properties = table.properties or []
    key = _ordered(properties, "primaryKeyPosition")
    rules = _rules(table, key)
    return TableContract(
        name=table.name or "",
        version=document.version or "",
        purpose=(document.description.purpose if document.description else None) or "",
        usage=(document.description.usage if document.description else None) or "",
        columns=tuple(_column(item) for item in properties),
        key=key,
        partitions=_ordered(properties, "partitionKeyPosition"),
        row_rules=tuple(rule for rule in rules if isinstance(rule, RowRule)),
        table_rules=tuple(rule for rule in rules if isinstance(rule, TableRule)),
        dataset_rules=tuple(rule for rule in rules if isinstance(rule, DatasetRule)),
        restricted=any(
            item.property == "access" and item.value == "restricted" for item in table.customProperties or []
        ),
        retention=_retention(document),
        person=person_link(table),
        relationships=_relationships(properties),
        digest=hashlib.sha256(text.encode()).hexdigest(),
    )


def _document(text: str) -> OpenDataContractStandard:
    content = yaml_content(text, origin="contract")
    try:
        return OpenDataContractStandard.model_validate(content)
    except ValidationError as error:
        raise ValueError(explain(error, OpenDataContractStandard, origin="contract")) from error


def _column(item: SchemaProperty) -> Column:
    return Column(
        name=item.name or "",
        type=item.physicalType or "",
        required=bool(item.required),
        classification=_classification(item),
        description=item.description or "",
        former_name=next((str(own.value) for own in item.customProperties or [] if own.property == "formerName"), ""),
    )


def _classification(item: SchemaProperty) -> str:
    allowed = [name for name in CLASSES if name != "direct_identifier"]
    if item.classification not in allowed:
        raise ValueError(
            f"column {item.name}: classification must be one of {', '.join(allowed)}; found {item.classification!r}"
            + (": a table holds pseudonyms only" if item.classification == "direct_identifier" else "")
        )
    return str(item.classification)


def person_link(table: SchemaObject) -> PersonLink:
    """The column user_id, else a column with a relationship, else the value of the custom property ``person``.

    Raises:
        ValueError: the contract does not state how a row leads to a person.
    """
    properties = table.properties or []
    if any(item.name == "user_id" for item in properties):
        return PersonLink(kind="user_id", column="user_id")
    for item in properties:
        for relation in item.relationships or []:
            target, _, column = str(relation.to).partition(".")
            if column != item.name:
                raise ValueError(
                    f"table {table.name}: {item.name} must reference a column of the same name; found {relation.to}"
                )
            return PersonLink(kind="link", column=item.name, table=target)
    declared = [item.value for item in table.customProperties or [] if item.property == "person"]
    if declared == ["nobody"]:
        return PersonLink(kind="nobody")
    texts = [item.name for item in properties if declared == [f"in {item.name}"]]
    if not texts:
        raise ValueError(
            f"table {table.name}: no user_id, no relationship, and no custom property person with 'nobody' or "
            "'in COLUMN': an erasure could not find the rows of a person"
        )
    return PersonLink(kind="text", column=str(texts[0]))


def _retention(document: OpenDataContractStandard) -> Retention | None:
    stated = [item for item in document.slaProperties or [] if item.property == "retention"]
    if not stated:
        return None
    (item,) = stated
    if item.unit != "d" or not isinstance(item.value, int):
        raise ValueError(f"retention must be whole days (unit d); found {item.value!r} {item.unit!r}")
    return Retention(column=str(item.element).rpartition(".")[2], days=item.value)


def _relationships(properties: list[SchemaProperty]) -> tuple[Relationship, ...]:
    return tuple(
        Relationship(column=str(item.name), table=table, target=target)
        for item in properties
        for relation in item.relationships or []
        for table, _, target in [str(relation.to).partition(".")]
    )


def _ordered(properties: list[SchemaProperty], position: str) -> tuple[str, ...]:
    placed = [(getattr(item, position), item.name) for item in properties if getattr(item, position) is not None]
    return tuple(name for _, name in sorted(placed))


def _rules(table: SchemaObject, key: tuple[str, ...]) -> list[Rule]:
    """Every rule of a contract: of its columns, its key and the table itself."""
    rules = [
        *(rule for item in table.properties or [] for rule in column_rules(item)),
        *([key_rule(key)] if key else []),
        *(entry_rule(entry, str(table.name)) for entry in table.quality or []),
    ]
    names = [rule.name for rule in rules]
    doubled = sorted({name for name in names if names.count(name) > 1 or not name})
    if doubled:
        raise ValueError(f"table {table.name}: every rule needs a unique name; found {', '.join(map(repr, doubled))}")
    return rules
