"""Reads source mappings: a raw source becomes events and profiles by a YAML of columns and SQL, without code.

A mapping names files and their columns, optional derived views, and the SQL that yields events and profiles. The SQL
sees every file and derived view by its name, and one parameter: ``:timezone``, the business time zone.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

import yaml

COLUMN_TYPES = ("int", "bigint", "double", "string", "timestamp", "date")  # and decimal(p,s)
NUMBER_TYPES = ("int", "bigint", "double")
FORMATS = ("csv", "json", "parquet", "delta")  # json: one object a line
DATA_KINDS = ("simulated", "public", "private")
MAX_REFUSED_SHARE = 0.2  # of raw rows, where a mapping says nothing
ATTRIBUTE_KINDS = ("code", "free_text")  # an attribute that is not declared is read as free text
_DECIMAL = re.compile(r"decimal\(\d+,\s*\d+\)")
_CSV_OPTIONS = ("separator", "header")
_CHARACTER = re.compile(r"[^\r\n]")
_NAME = re.compile(r"[a-z][a-z0-9_]*")
_WORD = re.compile(r"[a-z][a-z0-9_]{0,63}")
_LAG = re.compile(r"INTERVAL \d+ (MICROSECOND|SECOND|MINUTE|HOUR|DAY)S?", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class SourceColumn:
    """One column of a raw file; what does not fit it sends its row to quarantine."""

    name: str
    type: str
    required: bool
    identifier: bool  # raw values leave ingest only as keyed digests
    values: tuple[str, ...]  # allowed raw texts; empty: any
    minimum: float | None = None  # smallest allowed number; an amount that is never negative has 0


@dataclass(frozen=True, kw_only=True)
class SourceFile:
    """One raw file, or a folder of them, and the columns the mapping reads."""

    name: str
    path: str  # relative to the recipe's source.path
    format: str
    separator: str  # csv: between cells
    header: bool  # csv: whether the first line names the columns; else they are the mapping's, in its order
    null_values: tuple[str, ...]  # texts that mean an empty cell, beside the empty text
    columns: tuple[SourceColumn, ...]


@dataclass(frozen=True, kw_only=True)
class SourceMapping:
    """How one raw source becomes behavior_events and user_profiles."""

    name: str
    origin: str
    data: str
    title: str
    description: str
    license: str
    files: tuple[SourceFile, ...]
    derived: tuple[tuple[str, str], ...]
    events_sql: str
    profiles_sql: str
    known_at_lag: str | None  # None: the events state known_at themselves
    outcome_events: tuple[str, ...]
    closing_events: tuple[str, ...]
    attribute_codes: tuple[str, ...]  # attributes whose values no person wrote; the others are masked at ingest
    max_refused_share: float  # of raw rows; beyond it a delivery is taken for broken and nothing of it is published
    digest: str

    @property
    def known_at_basis(self) -> str:
        """``measured`` where the source states known_at, ``assumed`` where the mapping adds a lag."""
        return "measured" if self.known_at_lag is None else "assumed"


def mapping_names() -> tuple[str, ...]:
    """Names of the shipped mappings, sorted."""
    shipped = files("schemas").joinpath("sources")
    return tuple(sorted(entry.name.removesuffix(".yaml") for entry in shipped.iterdir() if ".yaml" in entry.name))


def load_mapping(name_or_path: str | Path) -> SourceMapping:
    """Reads a shipped mapping by name, or a mapping file by path.

    Raises:
        ValueError: no such mapping, or its content is not allowed; the text names file, field and what is allowed.
    """
    resource = _resource(name_or_path)
    if not resource.is_file():
        raise ValueError(
            f"source mapping {str(name_or_path)!r} is neither a shipped mapping ({', '.join(mapping_names())}) "
            "nor an existing file"
        )
    return parse_mapping(resource.read_text(encoding="utf-8"), origin=str(name_or_path))


def parse_mapping(text: str, *, origin: str) -> SourceMapping:
    """Parses the text of a mapping; ``origin`` is named in errors.

    Raises:
        ValueError: as ``load_mapping``.
    """
    try:
        content = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(f"{origin}: not valid YAML: {error}") from error
    return _mapping(_Node(where=origin, content=content), origin, hashlib.sha256(text.encode()).hexdigest())


def _resource(name_or_path: str | Path) -> Traversable:
    shipped = files("schemas").joinpath("sources", f"{name_or_path}.yaml")
    return shipped if _NAME.fullmatch(str(name_or_path)) and shipped.is_file() else Path(name_or_path)


@dataclass(frozen=True)
class _Node:
    """A piece of the YAML that knows its field path, so that every complaint can name it."""

    where: str
    content: Any

    def wrong(self, expected: str) -> ValueError:
        return ValueError(f"{self.where}: expected {expected}, found {self.content!r}")

    def fields(self, *, required: Iterable[str], optional: Iterable[str] = ()) -> dict[str, _Node]:
        allowed = (*required, *optional)
        if not isinstance(self.content, Mapping):
            raise self.wrong(f"a section with {', '.join(allowed)}")
        for key in self.content:
            if key not in allowed:
                raise ValueError(f"{self.where}: {key}: unknown key; allowed here: {', '.join(allowed)}")
        for key in required:
            if key not in self.content:
                raise ValueError(f"{self.where}: {key} is missing; required here: {', '.join(required)}")
        return {key: _Node(f"{self.where}: {key}", value) for key, value in self.content.items()}

    def named(self) -> list[tuple[str, _Node]]:
        """Entries under free names, in their order."""
        if not isinstance(self.content, Mapping):
            raise self.wrong("a section of named entries")
        return [(str(key), _Node(f"{self.where}: {key}", value)) for key, value in self.content.items()]

    def text(self) -> str:
        if not isinstance(self.content, str) or not self.content.strip():
            raise self.wrong("a text")
        return self.content.strip()

    def one_of(self, allowed: tuple[str, ...]) -> str:
        if self.content not in allowed:
            raise self.wrong(f"one of {', '.join(allowed)}")
        return str(self.content)

    def flag(self) -> bool:
        if not isinstance(self.content, bool):
            raise self.wrong("true or false")
        return self.content

    def number(self) -> float:
        if isinstance(self.content, bool) or not isinstance(self.content, int | float):
            raise self.wrong("a number")
        return float(self.content)

    def share(self) -> float:
        if not 0 <= self.number() <= 1:
            raise self.wrong("a share from 0 to 1")
        return self.number()

    def texts(self) -> tuple[str, ...]:
        if not isinstance(self.content, list):
            raise self.wrong("a list")
        return tuple(str(item) for item in self.content)

    def matching(self, pattern: re.Pattern[str], expected: str) -> str:
        if not isinstance(self.content, str) or not pattern.fullmatch(self.content):
            raise self.wrong(expected)
        return self.content


def _mapping(root: _Node, origin: str, digest: str) -> SourceMapping:
    required = ("name", "data", "title", "files", "events", "profiles", "known_at", "outcome_events")
    optional = ("description", "license", "derived", "closing_events", "attributes", "max_refused_share")
    node = root.fields(required=required, optional=optional)
    views = [name for section in ("files", "derived") if section in node for name, _ in node[section].named()]
    for name in views:
        if not _NAME.fullmatch(name) or views.count(name) > 1:
            raise ValueError(f"{origin}: {name!r}: files and derived views need distinct lower-case names")
    outcomes = _words(node["outcome_events"])
    closings = _words(node["closing_events"]) if "closing_events" in node else ()
    if not outcomes:
        raise node["outcome_events"].wrong("at least one event type")
    if not set(closings) <= set(outcomes):
        raise node["closing_events"].wrong(f"types out of outcome_events ({', '.join(outcomes)})")
    return SourceMapping(
        name=node["name"].matching(_NAME, "a lower-case name"),
        origin=origin,
        data=node["data"].one_of(DATA_KINDS),
        title=node["title"].text(),
        description=node["description"].text() if "description" in node else "",
        license=node["license"].text() if "license" in node else "",
        files=tuple(_file(name, item) for name, item in node["files"].named()),
        derived=tuple((name, item.text()) for name, item in node["derived"].named()) if "derived" in node else (),
        events_sql=node["events"].text(),
        profiles_sql=node["profiles"].text(),
        known_at_lag=_known_at_lag(node["known_at"]),
        outcome_events=outcomes,
        closing_events=closings,
        attribute_codes=_codes(node["attributes"]) if "attributes" in node else (),
        max_refused_share=node["max_refused_share"].share() if "max_refused_share" in node else MAX_REFUSED_SHARE,
        digest=digest,
    )


def _file(name: str, section: _Node) -> SourceFile:
    node = section.fields(required=("path", "format", "columns"), optional=("null_values", *_CSV_OPTIONS))
    for option in _CSV_OPTIONS:
        if option in node and node["format"].content != "csv":
            raise node[option].wrong("no such option, because the format is not csv")
    return SourceFile(
        name=name,
        path=node["path"].text(),
        format=node["format"].one_of(FORMATS),
        separator=node["separator"].matching(_CHARACTER, "one character") if "separator" in node else ",",
        header=node["header"].flag() if "header" in node else True,
        null_values=node["null_values"].texts() if "null_values" in node else (),
        columns=tuple(_column(column, item) for column, item in node["columns"].named()),
    )


def _column(name: str, section: _Node) -> SourceColumn:
    node = section.fields(required=("type",), optional=("required", "identifier", "values", "minimum"))
    kind = node["type"].text()
    if kind not in COLUMN_TYPES and not _DECIMAL.fullmatch(kind):
        raise node["type"].wrong(f"one of {', '.join(COLUMN_TYPES)}, decimal(p,s)")
    if "minimum" in node and kind not in NUMBER_TYPES and not _DECIMAL.fullmatch(kind):
        raise node["minimum"].wrong(f"no such bound, because {kind} is no number")
    return SourceColumn(
        name=name,
        type=kind,
        required=node["required"].flag() if "required" in node else False,
        identifier=node["identifier"].flag() if "identifier" in node else False,
        values=node["values"].texts() if "values" in node else (),
        minimum=node["minimum"].number() if "minimum" in node else None,
    )


def _codes(section: _Node) -> tuple[str, ...]:
    kinds = {name: item.one_of(ATTRIBUTE_KINDS) for name, item in section.named()}
    return tuple(name for name, kind in kinds.items() if kind == "code")


def _known_at_lag(section: _Node) -> str | None:
    node = section.fields(required=(), optional=("column", "lag"))
    if len(node) != 1:
        raise section.wrong("exactly one of column (measured) and lag (assumed)")
    if "column" in node:
        node["column"].one_of(("known_at",))
        return None
    return node["lag"].matching(_LAG, "an interval such as INTERVAL 1 DAY").upper()


def _words(section: _Node) -> tuple[str, ...]:
    words = section.texts()
    for word in words:
        if not _WORD.fullmatch(word):
            raise section.wrong(f"lower-case words; {word!r} is none")
    return words
