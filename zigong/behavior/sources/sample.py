"""Infers names, types and positions of columns from the first rows of a sample file; keeps codes, no other value."""

from __future__ import annotations

import codecs
import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from itertools import islice
from pathlib import Path
from typing import TextIO

import pyarrow.parquet as pq

from zigong.behavior.sources.identifying import CLIENTS, CONTACTS, identifier_guess, words_of
from zigong.behavior.sources.records import Dialect, Record, opened, opened_bytes, plain_name, records, utf_16
from zigong.behavior.sources.text_rows import READ_ERRORS, header_names
from zigong.errors import ConfigError, DataError

SAMPLE_ROWS, SAMPLE_BYTES, LAYOUT_ROWS = 2000, 2**22, 200
SEPARATORS = ",;\t|"
_FORMATS = {
    **dict.fromkeys((".csv", ".tsv", ".txt", ".asc", ".dat"), "csv"),
    **dict.fromkeys((".json", ".jsonl", ".ndjson"), "json"),
    ".parquet": "parquet",
}
_INTEGER = re.compile(r"[+-]?(0|[1-9]\d{0,17})")
_CENTS = re.compile(r"[+-]?\d{1,16}\.\d{1,2}")
_NUMBER = re.compile(r"[+-]?\d+(\.\d*)?([eE][+-]?\d+)?")


@dataclass(frozen=True, kw_only=True)
class SampleColumn:
    """A column of a sample: its inferred type, whether it is never empty, and what it seems to be.

    Attributes:
        note: an open question about it, empty if there is none.
        values: the codes it holds, if it seems to hold codes.
    """

    name: str
    type: str
    required: bool
    identifier: bool = False
    note: str = ""
    values: tuple[str, ...] = ()

    @property
    def is_time(self) -> bool:
        """Whether the type is a date or a time."""
        return self.type in {"date", "timestamp"}

    @property
    def names_client(self) -> bool:
        """Whether it is an identifier whose name speaks of a client."""
        return self.identifier and not CLIENTS.isdisjoint(words_of(self.name))

    @property
    def is_contact(self) -> bool:
        """Whether its name is that of a name, an address or a number to call: these change."""
        return not CONTACTS.isdisjoint(words_of(self.name))


@dataclass(frozen=True, kw_only=True)
class SourceSample:
    """A file as described in a mapping: name, path, format, dialect and columns.

    Attributes:
        notes: what was assumed about the file and should be looked at.
    """

    name: str
    path: str
    format: str
    columns: tuple[SampleColumn, ...]
    dialect: Dialect = field(default_factory=Dialect)
    header: bool = True
    notes: tuple[str, ...] = ()

    def first(self, wanted: Callable[[SampleColumn], bool]) -> str | None:
        """The quoted name of the first column that matches, None if there is none."""
        return next((f"`{column.name}`" for column in self.columns if wanted(column)), None)


def read_sample(file: Path, path: str, *, encoding: str | None = None) -> SourceSample:
    """Infers names and types of the columns from the first rows of a file.

    Args:
        file: csv (also .tsv, .txt, .asc, .dat), json with one object a line, both also compressed, or parquet.
        path: path of the file as written in the mapping.
        encoding: of its characters; None: UTF-8, or what the bytes show.

    Raises:
        ConfigError: the file is missing or has no known format.
        DataError: the file does not have the format that its name states.
    """
    ending = Path(plain_name(file)).suffix
    if not file.is_file() or ending not in _FORMATS:
        raise ConfigError(
            f"{file} is not a sample file: expected an existing file that ends in {', '.join(_FORMATS)}",
            action="provide one file of each kind that the source delivers",
        )
    name, kind = word(plain_name(Path(path)).rsplit(".", 1)[0]), _FORMATS[ending]
    try:
        if kind == "parquet":
            sample = SourceSample(name=name, path=path, format=kind, columns=_parquet_columns(file))
        else:
            found = encoding or _encoding(file)
            read = _csv_sample if kind == "csv" else _json_sample
            sample = read(file, name, path, found, _encoding_notes(found, asked=encoding))
    except (ValueError, *READ_ERRORS) as error:  # includes JSONDecodeError and pyarrow's ArrowInvalid
        raise DataError(
            f"{file} cannot be read as {kind}: {type(error).__name__}", action="provide a complete file of that format"
        ) from error
    if not sample.columns:
        raise DataError(f"{file} has no columns", action="provide a sample with a header and some rows")
    return sample


def word(text: str) -> str:
    """The text as a name for SQL and YAML: lower-case letters, digits and underscores, starting with a letter."""
    plain = re.sub(r"[^a-z0-9]+", "_", text.lower()).strip("_")
    return plain if plain[:1].isalpha() else f"source_{plain}".rstrip("_")


def _encoding(file: Path) -> str:
    """UTF-8 or UTF-16 where the first bytes fit, else windows-1252, in which almost every byte is a character."""
    if utf_16(file):
        return "utf-16"
    with opened_bytes(file) as stream:
        start = stream.read(SAMPLE_BYTES)
    try:
        codecs.getincrementaldecoder("utf-8")().decode(start)
    except UnicodeDecodeError:
        return "windows-1252"
    return "utf-8"


def _encoding_notes(found: str, *, asked: str | None) -> tuple[str, ...]:
    if asked or found != "windows-1252":
        return ()
    return ("not in UTF-8: drafted as windows-1252; compare letters such as umlauts, or use --encoding",)


def _csv_sample(file: Path, name: str, path: str, encoding: str, notes: tuple[str, ...]) -> SourceSample:
    separator, skip_lines = _layout(file, encoding)
    dialect = Dialect(separator=separator, skip_lines=skip_lines, encoding=encoding)
    with opened(file, encoding) as text:
        rows = [record.cells for record in islice(records(text, dialect), SAMPLE_ROWS + 1)]
    names = header_names(rows[0]) if rows else ()
    header = not _is_row(names, rows[1:])
    if skip_lines:
        notes = (
            *notes,
            f"the lines before line {skip_lines + 1} look like notes, later ones have more cells: skip_lines drafted",
        )
    if not header:
        names = tuple(f"column_{place}" for place in range(1, len(names) + 1))
        notes = (*notes, "the first line looks like a row: header: false drafted, the columns are numbered")
    below = rows[1:] if header else rows
    cells = {
        column: [row[place].strip() for row in below if place < len(row)]
        for place, column in enumerate(names)
        if column
    }
    return SourceSample(
        name=name, path=path, format="csv", columns=_columns(cells), dialect=dialect, header=header, notes=notes
    )


def _layout(file: Path, encoding: str) -> tuple[str, int]:
    """The separator by which most lines have the same number of cells, and the number of note lines before them."""
    found: dict[str, list[Record]] = {}
    for separator in SEPARATORS:
        with opened(file, encoding) as text:
            found[separator] = list(islice(records(text, Dialect(separator=separator)), LAYOUT_ROWS))

    def fit(separator: str) -> tuple[int, int]:
        width, lines = _usual_width(found[separator])
        return (lines, width) if width > 1 else (0, 0)

    separator = max(SEPARATORS, key=fit)
    width, _ = _usual_width(found[separator])
    first = next((record.line for record in found[separator] if len(record.cells) * 2 > width), 1)
    return separator, first - 1


def _usual_width(found: Sequence[Record]) -> tuple[int, int]:
    """The most frequent number of cells above one, and how many records have it."""
    widths = Counter(len(record.cells) for record in found if len(record.cells) > 1)
    return max(widths.items(), key=lambda item: (item[1], item[0]), default=(1, len(found)))


def _is_row(names: Sequence[str], rows: Sequence[Sequence[str]]) -> bool:
    """Whether a first line holds values, not names: a number, a time, a mail address, or a value found below it."""
    if any(_type_of([name]) != "string" or "@" in name for name in names if name):
        return True
    below = [row for row in rows if header_names(row) != tuple(names)]
    return any(name and any(row[place : place + 1] == [name] for row in below) for place, name in enumerate(names))


def _json_sample(file: Path, name: str, path: str, encoding: str, notes: tuple[str, ...]) -> SourceSample:
    with opened(file, encoding) as text:
        objects = list(islice(_objects(text), SAMPLE_ROWS))
    if not objects:
        raise ValueError("no line is an object")
    names = list(dict.fromkeys(key for item in objects for key in item))
    columns = _columns({key: [_json_text(item.get(key)) for item in objects] for key in names})
    dialect = Dialect(encoding=encoding)
    return SourceSample(name=name, path=path, format="json", columns=columns, dialect=dialect, notes=notes)


def _objects(lines: TextIO) -> Iterator[Mapping[str, object]]:
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
    """The columns of the schema; the first rows show which of them identify."""
    opened_file = pq.ParquetFile(file)
    batch = next(opened_file.iter_batches(batch_size=SAMPLE_ROWS), None)
    return tuple(
        _column(
            field.name,
            _parquet_type(str(field.type)),
            [] if batch is None else [_json_text(cell) for cell in map(_plain, batch.column(field.name).to_pylist())],
            required=not field.nullable,
        )
        for field in opened_file.schema_arrow
    )


def _plain(value: object) -> object:
    return value if value is None or isinstance(value, str | int | float | bool) else str(value)


def _parquet_type(kind: str) -> str:
    if decimal := re.fullmatch(r"decimal128\((\d+), (\d+)\)", kind):
        return f"decimal({decimal[1]},{decimal[2]})"
    known = {"int32": "int", "int64": "bigint", "double": "double", "float": "double", "date32[day]": "date"}
    return "timestamp" if kind.startswith("timestamp") else known.get(kind, "string")


def _columns(cells: Mapping[str, Sequence[str]]) -> tuple[SampleColumn, ...]:
    return tuple(
        _column(name, _type_of([text for text in texts if text]), texts, required=bool(texts) and all(texts))
        for name, texts in cells.items()
    )


def _column(name: str, kind: str, texts: Iterable[str], *, required: bool) -> SampleColumn:
    found = identifier_guess(name, kind, [text for text in texts if text])
    return SampleColumn(
        name=name, type=kind, required=required, identifier=found.identifier, note=found.note, values=found.codes
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
