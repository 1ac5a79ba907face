"""Reads text files on the workers: the records of CSV or the objects of JSON lines, each with its file and line."""

from __future__ import annotations

import gzip
import json
import lzma
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import pyarrow as pa

from schemas.mappings import SourceFile
from zigong.behavior.sources.listing import RawFile
from zigong.behavior.sources.records import UNREADABLE_TEXT, Dialect, opened, records, text_lines

CORRUPT, DOUBLED, FILE, LINE = "_corrupt_record", "_doubled_keys", "_file", "_line"
MALFORMED, REPEATED_HEADER = "malformed_row", "repeated_header"
READ_ERRORS = (OSError, EOFError, zlib.error, lzma.LZMAError, UnicodeError)
_BATCH_ROWS, _BATCH_CHARACTERS = 4_096, 2**24

Row = tuple[str | int | list[str] | None, ...]


def dialect_of(file: SourceFile) -> Dialect:
    """How the lines of a file of the mapping become cells."""
    return Dialect(
        separator=file.separator,
        escape=file.escape,
        multiline=file.multiline,
        skip_lines=file.skip_lines,
        encoding=file.encoding,
    )


def header_names(cells: Iterable[str]) -> tuple[str, ...]:
    """The cells of a header as names of columns."""
    return tuple(cell.strip() for cell in cells)


def cause_of_unreadable(error: BaseException) -> str:
    """The kind of an error, with the message of those that are about the file and never about its content."""
    if isinstance(error, gzip.BadGzipFile):  # its message quotes the first bytes
        return "not a gzip file"
    safe = isinstance(error, EOFError | zlib.error | lzma.LZMAError)
    return f"{type(error).__name__}: {str(error)[:100]}" if safe else type(error).__name__


@dataclass(frozen=True, kw_only=True)
class TextRows:
    """Reads the text files of one section of a mapping.

    Attributes:
        file: the section.
        columns: the declared columns that the files or their partition folders have.
    """

    file: SourceFile
    columns: tuple[str, ...]

    def batches(self, items: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Maps files (path, name, partition as JSON) to their rows: texts, fault, doubled keys, file and line.

        Raises:
            RuntimeError: a file cannot be read; the message names it and holds nothing of its content.
        """
        read = self._objects if self.file.format == "json" else self._records
        for batch in items:
            for item in batch.to_pylist():
                raw = RawFile(path=Path(item["path"]), name=item["name"], partition=json.loads(item["partition"]))
                try:
                    yield from _in_batches(read(raw), (*self.columns, CORRUPT))
                except READ_ERRORS as error:
                    named = json.dumps([str(raw.path), cause_of_unreadable(error)])
                    raise RuntimeError(f"{UNREADABLE_TEXT}{named}") from None

    def _records(self, item: RawFile) -> Iterator[Row]:
        declared = tuple(column.name for column in self.file.columns if column.name not in item.partition)
        with opened(item.path, self.file.encoding) as text:
            found = records(text, dialect_of(self.file), width=None if self.file.header else len(declared))
            header = next(found, None) if self.file.header else None
            names = header_names(header.cells) if header else declared
            places = [(names.index(name) if name in names else None, item.partition.get(name)) for name in self.columns]
            folded = _folded(names)
            for line, cells, broken in found:
                fault = MALFORMED if broken or len(cells) != len(names) else None
                if fault is None and _folded(cells[:1]) == folded[:1] and _folded(cells) == folded:
                    fault = REPEATED_HEADER
                row = [
                    folder if place is None else cells[place] if place < len(cells) else None
                    for place, folder in places
                ]
                yield (*row, fault, None, item.name, line)

    def _objects(self, item: RawFile) -> Iterator[Row]:
        with opened(item.path, self.file.encoding) as text:
            for line, content in enumerate(text_lines(text), start=1):
                if content.strip():
                    fields = _object(content)
                    found = item.partition if fields is None else {**item.partition, **fields}
                    cells = (_json_text(found.get(name)) for name in self.columns)
                    doubled = [name for name in self.columns if fields and name in fields.doubled]
                    yield (*cells, MALFORMED if fields is None else None, doubled or None, item.name, line)


class _Written(str):
    """A number of a JSON text with every digit as it is written."""


class _Fields(dict[str, object]):
    """The fields of a JSON object, of which the last one of a name counts.

    Attributes:
        doubled: names of fields that occur with different values, or that hold an object with such fields.
    """

    def __init__(self, pairs: list[tuple[str, object]]) -> None:
        super().__init__(pairs)
        self.doubled = frozenset(name for name, value in pairs if _holds_doubled(value))
        if len(self) < len(pairs):
            self.doubled |= {name for name, value in pairs if _json_text(value) != _json_text(self[name])}


def _holds_doubled(value: object) -> bool:
    if isinstance(value, list):
        return any(map(_holds_doubled, value))
    return isinstance(value, _Fields) and bool(value.doubled)


def _object(line: str) -> _Fields | None:
    """The fields of a JSON object; None if the line is none."""
    try:
        found = json.loads(
            line, object_pairs_hook=_Fields, parse_int=_Written, parse_float=_Written, parse_constant=_Written
        )
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, _Fields) else None


def _json_text(value: object, *, nested: bool = False) -> str | None:
    """A field as text: a text or number itself, anything else as JSON; half a surrogate pair becomes U+FFFD."""
    if value is None:
        return "null" if nested else None
    if isinstance(value, dict):
        return "{" + ",".join(f"{json.dumps(key)}:{_json_text(item, nested=True)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(str(_json_text(item, nested=True)) for item in value) + "]"
    if not isinstance(value, str) or (nested and not isinstance(value, _Written)):
        return json.dumps(value)
    return value if value.isascii() else value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _folded(cells: Iterable[str]) -> tuple[str, ...]:
    return tuple(name.casefold() for name in header_names(cells))


def _in_batches(rows: Iterator[Row], texts: tuple[str, ...]) -> Iterator[pa.RecordBatch]:
    """Arrow batches of a bounded number of rows and characters; their columns are ``texts`` and the three others."""
    names = [*texts, DOUBLED, FILE, LINE]
    kinds = [*(pa.string() for _ in texts), pa.list_(pa.string()), pa.string(), pa.int64()]
    while part := list(_bounded(islice(rows, _BATCH_ROWS))):
        arrays = [pa.array(column, kind) for column, kind in zip(zip(*part, strict=True), kinds, strict=True)]
        yield pa.RecordBatch.from_arrays(arrays, names)


def _bounded(rows: Iterable[Row]) -> Iterator[Row]:
    size = 0
    for row in rows:
        yield row
        size += sum(len(cell) for cell in row if isinstance(cell, str))
        if size > _BATCH_CHARACTERS:
            return
