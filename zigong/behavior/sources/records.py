"""Reads text files record by record by RFC 4180: the one reader of drafts, checks and ingest.

A cell may hold separators, doubled quotes and line ends if it is quoted. A quote that is never closed costs its own
line: the lines it would swallow are read again. Every record knows the number of its first line.
"""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import lzma
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, NamedTuple, TextIO, cast

QUOTE, BYTE_ORDER_MARK = '"', "\ufeff"
UNREADABLE_TEXT = "zigong: unreadable raw file "  # of an error on a worker; path and cause follow as JSON
MAX_LINE = 2**24  # characters; the rest of a longer line is skipped, so that no file can exhaust the memory
MAX_LINES, MAX_RECORD = 1_000, 2**25  # lines and characters of one record; beyond them a quote was left open
_COMPRESSED: dict[str, Callable[..., Any]] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}
_UTF_16 = (b"\xff\xfe", b"\xfe\xff")


@dataclass(frozen=True, kw_only=True)
class Dialect:
    """How the lines of a text file become cells.

    Attributes:
        separator: character between two cells.
        escape: character before a quote inside a quoted cell; the quote itself means that quotes are doubled.
        multiline: whether a quoted cell may hold line ends.
        skip_lines: number of lines before the header or the first row, such as notes.
        encoding: name of the character encoding; a byte order mark is never part of the text.
    """

    separator: str = ","
    escape: str = QUOTE
    multiline: bool = True
    skip_lines: int = 0
    encoding: str = "utf-8"


class Record(NamedTuple):
    """One record of a file.

    Attributes:
        line: number of its first line, from 1.
        cells: its cells; of a broken record whatever its first line yields.
        broken: whether it does not follow the dialect.
    """

    line: int
    cells: list[str]
    broken: bool


def plain_name(path: Path) -> str:
    """The lower-case name of a file without the ending of a compression."""
    name = path.name.lower()
    return next((name.removesuffix(ending) for ending in _COMPRESSED if name.endswith(ending)), name)


def opened_bytes(path: Path) -> IO[bytes]:
    """Opens a file, decompressed by its ending."""
    packed = _COMPRESSED.get(path.suffix.lower())
    return cast("IO[bytes]", packed(path, "rb") if packed else path.open("rb"))


def opened(path: Path, encoding: str) -> TextIO:
    """Opens a text file, decompressed by its ending; bytes that the encoding does not know become U+FFFD."""
    form = "utf-8-sig" if encoding.lower().replace("_", "-") in {"utf-8", "utf8"} else encoding
    return io.TextIOWrapper(opened_bytes(path), encoding=form, errors="replace", newline="")


def utf_16(path: Path) -> bool:
    """Whether a file begins with the byte order mark of UTF-16."""
    with opened_bytes(path) as stream:
        return stream.read(2) in _UTF_16


def text_lines(text: TextIO) -> Iterator[str]:
    """The lines of a file with their ends; a mark may begin any line, where files were joined to one."""
    while line := text.readline(MAX_LINE):
        yield line.removeprefix(BYTE_ORDER_MARK)
        while len(line) == MAX_LINE and not line.endswith(("\n", "\r")):
            line = text.readline(MAX_LINE)


def records(text: TextIO, dialect: Dialect, *, width: int | None = None) -> Iterator[Record]:
    """The records of a file after the lines to skip, without blank lines.

    Args:
        text: as returned by :func:`opened`.
        dialect: how lines become cells.
        width: number of cells of a record; a record of several lines with another number is an open quote. None: that
            of the first record.
    """
    csv.field_size_limit(MAX_RECORD)
    feed = _Feed(text_lines(text), max_lines=MAX_LINES if dialect.multiline else 1)
    line = 1 + sum(1 for _ in zip(range(dialect.skip_lines), feed.lines, strict=False))
    escape = None if dialect.escape == QUOTE else dialect.escape
    strict = csv.reader(feed, delimiter=dialect.separator, escapechar=escape, strict=True)
    while True:
        feed.start()
        try:
            cells, broken = next(strict), False
        except StopIteration:
            return
        except (csv.Error, _OpenQuote):
            cells, broken = [], True
        if len(feed.taken) > 1 and (broken or len(cells) != (width or len(cells))):
            cells, broken = [], True
            feed.put_back()
        if broken:
            cells = next(csv.reader(feed.taken, delimiter=dialect.separator, escapechar=escape), [])
        if broken or len(cells) > 1 or any(cell.strip() for cell in cells):
            width = width or len(cells)
            yield Record(line, cells, broken)
        line += len(feed.taken)


class _OpenQuote(Exception):  # noqa: N818 - raised and caught here only
    """A record goes on for too many lines."""


class _Feed:
    """The lines of a file for the csv module, which can be put back when an open quote has swallowed them."""

    def __init__(self, lines: Iterator[str], *, max_lines: int) -> None:
        self.lines = lines
        self.taken: list[str] = []  # the lines of the current record
        self._again: deque[str] = deque()
        self._max_lines = max_lines
        self._size = 0

    def __iter__(self) -> _Feed:
        return self

    def __next__(self) -> str:
        if self.taken and (len(self.taken) >= self._max_lines or self._size > MAX_RECORD):
            raise _OpenQuote
        line = self._again.popleft() if self._again else next(self.lines)
        self.taken.append(line)
        self._size += len(line)
        return line

    def start(self) -> None:
        """Begins a record."""
        self.taken = []
        self._size = 0

    def put_back(self) -> None:
        """Keeps the first line of the current record; the others are read again."""
        self._again.extendleft(reversed(self.taken[1:]))
        del self.taken[1:]
