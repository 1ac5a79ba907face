"""Finds keys of persons in files: Parquet is decoded, even if no table refers to it; other files are read as bytes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

SHORTEST_RAW_ID = 6  # a shorter one cannot be distinguished from other numbers and words
BLOCK = 1 << 22  # bytes of a file that are searched at once
_BORDER = 512  # overlap of two blocks in bytes: longer than any key
_PSEUDONYM = re.compile(r"(?<![0-9a-f])[0-9a-f]{64}(?![0-9a-f])")
_WORD = re.compile(r"[^\W_]+")


@dataclass(frozen=True, kw_only=True)
class Traces:
    """The keys to search for.

    Attributes:
        pseudonyms: 64 hex digits each.
        raw_ids: as written in the source; those shorter than ``SHORTEST_RAW_ID`` are not searched for.
    """

    pseudonyms: frozenset[str]
    raw_ids: frozenset[str] = frozenset()
    _anchors: dict[str, list[str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for raw_id in self.raw_ids:
            if len(raw_id) >= SHORTEST_RAW_ID:
                words = _WORD.findall(raw_id)
                self._anchors.setdefault(max(words, key=len) if words else raw_id, []).append(raw_id)

    def within(self, text: str) -> set[str]:
        """The keys that occur in a text; raw ids must be delimited by word boundaries."""
        found = {word for word in _PSEUDONYM.findall(text) if word in self.pseudonyms}
        if self._anchors:
            for word in set(_WORD.findall(text)) & self._anchors.keys():
                found |= {raw_id for raw_id in self._anchors[word] if _is_delimited(raw_id, text)}
        return found

    def redacted(self, text: str) -> str:
        """The text with every key replaced by ``erased``."""
        for key in sorted(self.within(text), key=len, reverse=True):
            text = text.replace(key, "erased")
        return text

    def in_array(self, array: pa.Array) -> pa.Array:
        """Booleans: which elements of an array contain a key, at any depth."""
        rows = [bool(self.within("\n".join(_texts(array.slice(place, 1))))) for place in range(len(array))]
        return pa.array(rows, pa.bool_())


def _is_delimited(raw_id: str, text: str) -> bool:
    return re.search(rf"(?<![^\W_]){re.escape(raw_id)}(?![^\W_])", text) is not None


def found_in(file: Path, traces: Traces) -> set[str]:
    """The keys that a file contains."""
    texts = parquet_texts(file) if file.suffix == ".parquet" else _blocks(file)
    return {key for text in texts for key in traces.within(text)}


def parquet_texts(file: Path) -> Iterator[str]:
    """The metadata of a Parquet file, and the distinct texts of each batch and column, joined by line breaks."""
    opened = pq.ParquetFile(file)
    yield str({key.decode(): value.decode() for key, value in (opened.schema_arrow.metadata or {}).items()})
    for batch in opened.iter_batches():
        for column in batch.columns:
            yield "\n".join(_texts(column))


def _texts(array: pa.Array) -> Iterator[str]:
    kind = array.type
    if pa.types.is_struct(kind):
        for part in array.flatten():
            yield from _texts(part)
    elif pa.types.is_map(kind):
        valid = array.filter(array.is_valid())
        for part in (valid.keys, valid.items):
            yield from _texts(part.slice(valid.offsets[0].as_py(), _span(valid)) if len(valid) else part.slice(0, 0))
    elif pa.types.is_list(kind) or pa.types.is_large_list(kind):
        yield from _texts(array.flatten())
    elif pa.types.is_dictionary(kind):
        yield from _texts(array.dictionary_decode())
    elif pa.types.is_string(kind) or pa.types.is_large_string(kind):
        yield from pc.unique(array).drop_null().to_pylist()
    elif pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        yield from (value.decode("latin-1") for value in pc.unique(array).drop_null().to_pylist())


def _span(array: pa.MapArray) -> int:
    return int(array.offsets[len(array)].as_py() - array.offsets[0].as_py())


def _blocks(file: Path) -> Iterator[str]:
    """A file in overlapping blocks, so that no key is split."""
    before = b""
    with file.open("rb") as content:
        while block := content.read(BLOCK):
            yield (before + block).decode("utf-8", errors="replace")
            before = block[-_BORDER:]


def files_below(root: Path, *, without: Iterable[Path] = ()) -> Iterator[Path]:
    """All files below a folder, sorted, except those below ``without``."""
    skipped = tuple(without)
    for file in sorted(root.rglob("*")):
        if file.is_file() and not any(file.is_relative_to(folder) for folder in skipped):
            yield file
