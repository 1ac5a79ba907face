"""Infers names, types and positions of columns from the first rows of a sample file; keeps no value of it."""

from __future__ import annotations

import csv
import gzip
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from itertools import islice
from pathlib import Path
from typing import TextIO

import pyarrow.parquet as pq

from zigong.errors import ConfigError, DataError

SAMPLE_ROWS = 2000
SEPARATORS = ",;\t|"
_FORMATS = {".csv": "csv", ".json": "json", ".jsonl": "json", ".ndjson": "json", ".parquet": "parquet"}
_IDENTIFIERS = {"id", "uuid", "key", "no", "nr", "number", "iban", "email", "phone", "ssn", "passport", "account"}
_INTEGER = re.compile(r"[+-]?(0|[1-9]\d{0,17})")
_CENTS = re.compile(r"[+-]?\d{1,16}\.\d{1,2}")
_NUMBER = re.compile(r"[+-]?\d+(\.\d*)?([eE][+-]?\d+)?")


@dataclass(frozen=True, kw_only=True)
class SampleColumn:
    """A column of a sample, with its inferred type and whether it is never empty."""

    name: str
    type: str
    required: bool

    @property
    def identifier(self) -> bool:
        """Whether the last word of the name suggests an identifier: id, client_id, clientId, IBAN."""
        words = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", self.name).lower()
        return re.split(r"[^a-z0-9]+", words)[-1] in _IDENTIFIERS

    @property
    def is_time(self) -> bool:
        """Whether the type is a date or a time."""
        return self.type in {"date", "timestamp"}


@dataclass(frozen=True, kw_only=True)
class SourceSample:
    """A file as described in a mapping: name, path, format and columns."""

    name: str
    path: str
    format: str
    separator: str
    columns: tuple[SampleColumn, ...]

    def first(self, wanted: Callable[[SampleColumn], bool]) -> str | None:
        """The quoted name of the first column that matches, None if there is none."""
        return next((f"`{column.name}`" for column in self.columns if wanted(column)), None)


def read_sample(file: Path, path: str) -> SourceSample:
    """Infers names and types of the columns from the first rows of a file.

    Args:
        file: csv (also .csv.gz), json with one object a line, or parquet.
        path: path of the file as written in the mapping.

    Raises:
        ConfigError: the file is missing or has no known format.
        DataError: the file does not have the format that its name states.
    """
    if not file.is_file() or _ending(file) not in _FORMATS:
        raise ConfigError(
            f"{file} is not a sample file: expected an existing file that ends in {', '.join(_FORMATS)}",
            action="provide one file of each kind that the source delivers",
        )
    kind, separator = _FORMATS[_ending(file)], ","
    try:
        if kind == "parquet":
            columns = _parquet_columns(file)
        else:
            with _opened(file) as text:
                separator, columns = _csv_columns(text) if kind == "csv" else (",", _json_columns(text))
    except (ValueError, OSError) as error:  # includes UnicodeDecodeError, JSONDecodeError and pyarrow's ArrowInvalid
        raise DataError(
            f"{file} cannot be read as {kind}: {type(error).__name__}", action="provide a file of that format in UTF-8"
        ) from error
    if not columns:
        raise DataError(f"{file} has no columns", action="provide a sample with a header and some rows")
    name = word(Path(path).name.removesuffix(".gz").rsplit(".", 1)[0])
    return SourceSample(name=name, path=path, format=kind, separator=separator, columns=columns)


def word(text: str) -> str:
    """The text as a name for SQL and YAML: lower-case letters, digits and underscores, starting with a letter."""
    plain = re.sub(r"[^a-z0-9]+", "_", text.lower()).strip("_")
    return plain if plain[:1].isalpha() else f"source_{plain}".rstrip("_")


def _ending(file: Path) -> str:
    return Path(file.name.lower().removesuffix(".gz")).suffix


def _opened(file: Path) -> TextIO:
    if file.suffix.lower() == ".gz":
        return gzip.open(file, "rt", encoding="utf-8", newline="")
    return file.open(encoding="utf-8", newline="")


def _csv_columns(text: TextIO) -> tuple[str, tuple[SampleColumn, ...]]:
    header = text.readline()
    separator = max(SEPARATORS, key=header.count)
    names = next(csv.reader([header], delimiter=separator), [])
    rows = list(islice(csv.reader(text, delimiter=separator), SAMPLE_ROWS))
    cells = {name: [row[place].strip() for row in rows if place < len(row)] for place, name in enumerate(names)}
    return separator, _columns(cells)


def _json_columns(text: TextIO) -> tuple[SampleColumn, ...]:
    objects = list(islice(_objects(text), SAMPLE_ROWS))
    if not objects:
        raise ValueError("no line is an object")
    names = list(dict.fromkeys(name for item in objects for name in item))
    return _columns({name: [_json_text(item.get(name)) for item in objects] for name in names})


def _objects(lines: Iterable[str]) -> Iterator[Mapping[str, object]]:
    """The lines that are JSON objects; `zigong source check` counts the others."""
    for line in lines:
        try:
            item = json.loads(line)
        except ValueError:
            continue
        if isinstance(item, Mapping):
            yield item


def _json_text(value: object) -> str:
    return "" if value is None else value if isinstance(value, str) else json.dumps(value)


def _parquet_columns(file: Path) -> tuple[SampleColumn, ...]:
    return tuple(
        SampleColumn(name=field.name, type=_parquet_type(str(field.type)), required=not field.nullable)
        for field in pq.read_schema(file)
    )


def _parquet_type(kind: str) -> str:
    if decimal := re.fullmatch(r"decimal128\((\d+), (\d+)\)", kind):
        return f"decimal({decimal[1]},{decimal[2]})"
    known = {"int32": "int", "int64": "bigint", "double": "double", "float": "double", "date32[day]": "date"}
    return "timestamp" if kind.startswith("timestamp") else known.get(kind, "string")


def _columns(cells: Mapping[str, Sequence[str]]) -> tuple[SampleColumn, ...]:
    return tuple(
        SampleColumn(name=name, type=_type_of([text for text in texts if text]), required=bool(texts) and all(texts))
        for name, texts in cells.items()
    )


def _type_of(texts: Sequence[str]) -> str:
    """The narrowest type that fits all texts; a number with a leading zero is a code and remains a string."""
    if not texts:
        return "string"
    if all(_INTEGER.fullmatch(text) for text in texts):
        return "int" if all(abs(int(text)) < 2**31 for text in texts) else "bigint"
    if all(_CENTS.fullmatch(text) or _INTEGER.fullmatch(text) for text in texts):
        return "decimal(18,2)"
    if all(_NUMBER.fullmatch(text) and not re.match(r"[+-]?0\d", text) for text in texts):
        return "double"
    if all(_is_time(text, date.fromisoformat, 10) for text in texts):
        return "date"
    return "timestamp" if all(_is_time(text, datetime.fromisoformat, 16) for text in texts) else "string"


def _is_time(text: str, parse: Callable[[str], object], length: int) -> bool:
    """Whether the text is an ISO date or time of at least that length; 20230401 remains a number."""
    try:
        parse(text)
    except ValueError:
        return False
    return len(text) >= length and text[4] == "-"
