"""The model of a source mapping file: its sections, their types and the constraints between them."""

from __future__ import annotations

import codecs
import re
from collections import Counter
from typing import Annotated, Literal, Self

from pydantic import (
    AfterValidator,
    Field,
    StringConstraints,
    ValidationInfo,
    field_validator,
    model_validator,
)

from schemas.documents import Strict

Format = Literal["csv", "json", "parquet", "delta"]  # json: one object a line
COLUMN_TYPES = ("int", "bigint", "double", "string", "timestamp", "date")  # and decimal(p,s)
NUMBER_TYPES = ("int", "bigint", "double")
MAX_REFUSED_SHARE = 0.2  # of raw rows, unless the mapping sets another share
RESERVED = {"_line", "_file"}  # columns that every file has: the line of a row, and the name of its file
NAME = re.compile(r"[a-z][a-z0-9_]*")
_DECIMAL = re.compile(r"decimal\(\d+,\s*\d+\)")


def _matching(pattern: str, expected: str, flags: int = 0) -> AfterValidator:
    """Refuses a text that does not match the complete pattern."""

    def checked(text: str) -> str:
        if not re.fullmatch(pattern, text, flags):
            raise ValueError(f"expected {expected}, found {text!r}")
        return text

    return AfterValidator(checked)


Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]
Name = Annotated[str, _matching(NAME.pattern, "a lower-case name")]
ViewName = Annotated[str, _matching(NAME.pattern, "a lower-case name")]
EventType = Annotated[str, _matching(r"[a-z][a-z0-9_]{0,63}", "a lower-case word")]
Below = Annotated[Text, _matching(r"(?!/|~)(?!.*(^|/)\.\.(/|$))(?!.*:)[^\0]+", "a path below source.path", re.DOTALL)]
Character = Annotated[str, _matching(r"[^\r\n]", "one character")]


def _known_encoding(name: str) -> str:
    try:
        found = codecs.lookup(name)
        "".encode(name)  # fails where the codec turns bytes into bytes
    except LookupError as error:
        raise ValueError(
            f"expected an encoding such as utf-8, windows-1252, iso-8859-15 or utf-16, found {name!r}"
        ) from error
    return found.name


Encoding = Annotated[str, AfterValidator(_known_encoding)]
Interval = Annotated[
    str,
    _matching(
        r"INTERVAL \d+ (MICROSECOND|SECOND|MINUTE|HOUR|DAY)S?", "an interval such as INTERVAL 1 DAY", re.IGNORECASE
    ),
]


def _with_a_date(pattern: str) -> str:
    """Refuses a pattern of arrivals that does not state a complete date once."""
    if any(pattern.count(part) != 1 for part in ("{yyyy}", "{mm}", "{dd}")):
        raise ValueError(
            f"expected {{yyyy}}, {{mm}} and {{dd}} once each, as in bookings_{{yyyy}}{{mm}}{{dd}}, found {pattern!r}"
        )
    return pattern


Arrival = Annotated[str, AfterValidator(_with_a_date)]  # in the path of a file: the date it arrived on


class ColumnSection(Strict):
    """One column of a raw file."""

    type: Text
    required: bool = False
    identifier: bool = False
    values: list[str] = Field(default_factory=list)
    minimum: float | None = None
    note: str = ""

    @model_validator(mode="after")
    def _exact_identifier(self) -> Self:
        if self.identifier and self.type == "double":
            raise ValueError(
                "expected string, bigint or decimal for an identifier, because a double rounds; found double"
            )
        return self

    @field_validator("type")
    @classmethod
    def _known_type(cls, kind: str) -> str:
        if kind not in COLUMN_TYPES and not _DECIMAL.fullmatch(kind):
            raise ValueError(f"expected one of {', '.join(COLUMN_TYPES)}, decimal(p,s), found {kind!r}")
        return kind

    @field_validator("minimum")
    @classmethod
    def _of_a_number(cls, minimum: float | None, info: ValidationInfo) -> float:
        kind = info.data.get("type", "double")
        if kind not in NUMBER_TYPES and not _DECIMAL.fullmatch(kind):
            raise ValueError(f"expected no such bound, because {kind} is not a number, found {minimum!r}")
        if minimum is None:
            raise ValueError("expected a number, found None")
        return minimum


class FileSection(Strict):
    """One raw file, or a folder of them."""

    path: Below
    format: Format
    columns: dict[str, ColumnSection]
    null_values: list[str] = Field(default_factory=list)
    separator: Character = ","
    header: bool = True
    escape: Character = '"'
    multiline: bool = True
    skip_lines: Annotated[int, Field(ge=0)] = 0
    encoding: Encoding = "utf-8"
    arrival: Arrival | None = None

    @field_validator("columns")
    @classmethod
    def _without_reserved_names(cls, columns: dict[str, ColumnSection]) -> dict[str, ColumnSection]:
        reserved = sorted(RESERVED & columns.keys())
        if reserved:
            raise ValueError(f"expected other names than {', '.join(sorted(RESERVED))}, found {', '.join(reserved)}")
        return columns

    @field_validator("separator", "header", "escape", "multiline", "skip_lines")
    @classmethod
    def _of_a_csv(cls, option: str | bool, info: ValidationInfo) -> str | bool:
        if info.data.get("format") != "csv":
            raise ValueError(f"expected no such option, because the format is not csv, found {option!r}")
        return option

    @field_validator("arrival")
    @classmethod
    def _of_files(cls, pattern: str, info: ValidationInfo) -> str:
        if info.data.get("format") == "delta":
            raise ValueError(f"expected no such option, because a Delta table is no file, found {pattern!r}")
        return pattern

    @field_validator("encoding")
    @classmethod
    def _of_a_text(cls, encoding: str, info: ValidationInfo) -> str:
        if info.data.get("format") not in ("csv", "json"):
            raise ValueError(f"expected no such option, because the format is neither csv nor json, found {encoding!r}")
        return encoding


class KnownAtSection(Strict):
    """When the lender knew of an event: stated by a column of the events, or assumed as a lag after the event."""

    column: Literal["known_at"] = "known_at"
    lag: Interval = ""

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if len(self.model_fields_set) != 1:
            raise ValueError("expected exactly one of column (measured) and lag (assumed)")
        return self


class DeliveriesSection(Strict):
    """What a delivery states, and what becomes of a row that differs from the published one."""

    events: Literal["changes", "full"] = "changes"  # full: an event that a delivery leaves out is withdrawn
    profiles: Literal["changes", "full"] = "changes"  # full: the profile of a client that it leaves out ends
    redelivery: Literal["version", "refuse"] = "version"


class MappingFile(Strict):
    """A complete mapping file."""

    name: Name
    data: Literal["simulated", "public", "private"]
    title: Text
    files: dict[ViewName, FileSection]
    events: Text
    profiles: Text
    known_at: KnownAtSection
    outcome_events: list[EventType] = Field(min_length=1)
    description: Text = ""
    license: Text = ""
    derived: dict[ViewName, Text] = Field(default_factory=dict)
    closing_events: list[EventType] = Field(default_factory=list)
    attributes: dict[str, Literal["code", "free_text"]] = Field(default_factory=dict)
    max_refused_share: Annotated[float, Field(ge=0, le=1)] = MAX_REFUSED_SHARE
    id_namespace: Name | None = None
    deliveries: DeliveriesSection = DeliveriesSection()

    @field_validator("closing_events")
    @classmethod
    def _out_of_the_outcomes(cls, closing: list[str], info: ValidationInfo) -> list[str]:
        outcomes = info.data.get("outcome_events", closing)
        if not set(closing) <= set(outcomes):
            raise ValueError(f"expected types out of outcome_events ({', '.join(outcomes)}), found {closing}")
        return closing

    @model_validator(mode="after")
    def _views_are_distinct(self) -> Self:
        doubled = [name for name, count in Counter([*self.files, *self.derived]).items() if count > 1]
        if doubled:
            raise ValueError(f"files and derived views need distinct names, found {', '.join(doubled)} in both")
        return self
