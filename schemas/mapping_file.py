"""The model of a source mapping file: its sections, their types and the constraints between them."""

from __future__ import annotations

import re
from collections import Counter
from typing import Annotated, Literal, Self

from pydantic import (
    AfterValidator,
    BeforeValidator,
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
Key = Annotated[str, BeforeValidator(str)]  # keys and list items that YAML reads as numbers become texts
Name = Annotated[str, _matching(NAME.pattern, "a lower-case name")]
ViewName = Annotated[Key, _matching(NAME.pattern, "a lower-case name")]
EventType = Annotated[Key, _matching(r"[a-z][a-z0-9_]{0,63}", "a lower-case word")]
Character = Annotated[str, _matching(r"[^\r\n]", "one character")]
Interval = Annotated[
    str,
    _matching(
        r"INTERVAL \d+ (MICROSECOND|SECOND|MINUTE|HOUR|DAY)S?", "an interval such as INTERVAL 1 DAY", re.IGNORECASE
    ),
]


class ColumnSection(Strict):
    """One column of a raw file."""

    type: Text
    required: bool = False
    identifier: bool = False
    values: list[Key] = Field(default_factory=list)
    minimum: float | None = None

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

    path: Text
    format: Format
    columns: dict[Key, ColumnSection]
    null_values: list[Key] = Field(default_factory=list)
    separator: Character = ","
    header: bool = True

    @field_validator("separator", "header")
    @classmethod
    def _of_a_csv(cls, option: str | bool, info: ValidationInfo) -> str | bool:
        if info.data.get("format") != "csv":
            raise ValueError(f"expected no such option, because the format is not csv, found {option!r}")
        return option


class KnownAtSection(Strict):
    """When the lender knew of an event: stated by a column of the events, or assumed as a lag after the event."""

    column: Literal["known_at"] = "known_at"
    lag: Interval = ""

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if len(self.model_fields_set) != 1:
            raise ValueError("expected exactly one of column (measured) and lag (assumed)")
        return self


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
    attributes: dict[Key, Literal["code", "free_text"]] = Field(default_factory=dict)
    max_refused_share: Annotated[float, Field(ge=0, le=1)] = MAX_REFUSED_SHARE

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
