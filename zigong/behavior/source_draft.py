"""A commented starting mapping for new files, from the first rows of a sample of each.

No cell of the sample enters the mapping: only names, types and places of columns do.
"""

from __future__ import annotations

import csv
import gzip
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from itertools import islice
from pathlib import Path
from typing import TextIO

import pyarrow.parquet as pq
import yaml

from zigong.errors import ConfigError, DataError

SAMPLE_ROWS = 2000
SEPARATORS = ",;\t|"
_FORMATS = {".csv": "csv", ".json": "json", ".jsonl": "json", ".ndjson": "json", ".parquet": "parquet"}
_IDENTIFIERS = {"id", "uuid", "key", "no", "nr", "number", "iban", "email", "phone", "ssn", "passport", "account"}
_INTEGER = re.compile(r"[+-]?(0|[1-9]\d{0,17})")
_CENTS = re.compile(r"[+-]?\d{1,16}\.\d{1,2}")
_NUMBER = re.compile(r"[+-]?\d+(\.\d*)?([eE][+-]?\d+)?")


@dataclass(frozen=True, kw_only=True)
class Draft:
    """A mapping's text and the folder it is to be checked against."""

    text: str
    folder: Path


@dataclass(frozen=True, kw_only=True)
class _Column:
    name: str
    type: str
    required: bool

    @property
    def identifier(self) -> bool:
        """Whether the name ends like that of an identifier: id, client_id, clientId, IBAN."""
        words = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", self.name).lower()
        return re.split(r"[^a-z0-9]+", words)[-1] in _IDENTIFIERS

    @property
    def is_time(self) -> bool:
        return self.type in {"date", "timestamp"}


@dataclass(frozen=True, kw_only=True)
class _Sample:
    name: str
    path: str
    format: str
    separator: str
    columns: tuple[_Column, ...]

    def first(self, wanted: Callable[[_Column], bool]) -> str | None:
        """The quoted name of the first such column."""
        return next((f"`{column.name}`" for column in self.columns if wanted(column)), None)


def drafted_mapping(files: Sequence[Path], *, name: str | None = None) -> Draft:
    """Drafts a mapping for sample files; every open question in it is marked TODO.

    Args:
        files: csv (also .csv.gz), json with one object a line, or parquet.
        name: name of the source; default: that of the first file.

    Raises:
        ConfigError: a file is missing or of no known format.
        DataError: a file is not of the format its name tells.
    """
    for file in files:
        if not file.is_file() or _ending(file) not in _FORMATS:
            raise ConfigError(
                f"{file} is no sample file: expected an existing file that ends in {', '.join(_FORMATS)}",
                action="give one file of each kind that the source delivers",
            )
    folder = Path(os.path.commonpath([file.resolve().parent for file in files]))
    samples = [_sampled(file, str(file.resolve().relative_to(folder))) for file in files]
    return Draft(text=_mapping_text(_word(name or samples[0].name), samples), folder=folder)


def _ending(file: Path) -> str:
    return Path(file.name.lower().removesuffix(".gz")).suffix


def _word(text: str) -> str:
    word = re.sub(r"[^a-z0-9]+", "_", text.lower()).strip("_")
    return word if word[:1].isalpha() else f"source_{word}".rstrip("_")


def _sampled(file: Path, path: str) -> _Sample:
    kind, separator = _FORMATS[_ending(file)], ","
    try:
        if kind == "parquet":
            columns = _parquet_columns(file)
        else:
            with _opened(file) as text:
                separator, columns = _csv_columns(text) if kind == "csv" else (",", _json_columns(text))
    except (ValueError, OSError) as error:  # UnicodeDecodeError, JSONDecodeError and pyarrow's ArrowInvalid are such
        raise DataError(
            f"{file} cannot be read as {kind}: {type(error).__name__}", action="give a file of that format in UTF-8"
        ) from error
    if not columns:
        raise DataError(f"{file} has no columns", action="give a sample with a header and some rows")
    name = _word(Path(path).name.removesuffix(".gz").rsplit(".", 1)[0])
    return _Sample(name=name, path=path, format=kind, separator=separator, columns=columns)


def _opened(file: Path) -> TextIO:
    if file.suffix.lower() == ".gz":
        return gzip.open(file, "rt", encoding="utf-8", newline="")
    return file.open(encoding="utf-8", newline="")


def _csv_columns(text: TextIO) -> tuple[str, tuple[_Column, ...]]:
    header = text.readline()
    separator = max(SEPARATORS, key=header.count)
    names = next(csv.reader([header], delimiter=separator), [])
    rows = list(islice(csv.reader(text, delimiter=separator), SAMPLE_ROWS))
    cells = {name: [row[place].strip() for row in rows if place < len(row)] for place, name in enumerate(names)}
    return separator, _columns(cells)


def _json_columns(text: TextIO) -> tuple[_Column, ...]:
    objects = list(islice(_objects(text), SAMPLE_ROWS))
    if not objects:
        raise ValueError("no line is an object")
    names = list(dict.fromkeys(name for item in objects for name in item))
    return _columns({name: [_json_text(item.get(name)) for item in objects] for name in names})


def _objects(lines: Iterable[str]) -> Iterator[Mapping[str, object]]:
    """The lines that are JSON objects; the others are for `zigong source check` to count."""
    for line in lines:
        try:
            item = json.loads(line)
        except ValueError:
            continue
        if isinstance(item, Mapping):
            yield item


def _json_text(value: object) -> str:
    return "" if value is None else value if isinstance(value, str) else json.dumps(value)


def _parquet_columns(file: Path) -> tuple[_Column, ...]:
    return tuple(
        _Column(name=field.name, type=_parquet_type(str(field.type)), required=not field.nullable)
        for field in pq.read_schema(file)
    )


def _parquet_type(kind: str) -> str:
    if decimal := re.fullmatch(r"decimal128\((\d+), (\d+)\)", kind):
        return f"decimal({decimal[1]},{decimal[2]})"
    known = {"int32": "int", "int64": "bigint", "double": "double", "float": "double", "date32[day]": "date"}
    return "timestamp" if kind.startswith("timestamp") else known.get(kind, "string")


def _columns(cells: Mapping[str, Sequence[str]]) -> tuple[_Column, ...]:
    return tuple(
        _Column(name=name, type=_type_of([text for text in texts if text]), required=bool(texts) and all(texts))
        for name, texts in cells.items()
    )


def _type_of(texts: Sequence[str]) -> str:
    """The narrowest type that all texts have; a number with a leading zero is a code, so it stays a string."""
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
    """Whether the text is an ISO date or time of at least that length; 20230401 is left a number."""
    try:
        parse(text)
    except ValueError:
        return False
    return len(text) >= length and text[4] == "-"


def _mapping_text(name: str, samples: Sequence[_Sample]) -> str:
    timed = [sample for sample in samples if sample.first(lambda column: column.is_time)] or list(samples[:1])
    keyed = next((sample for sample in samples if sample.first(lambda column: column.identifier)), samples[0])
    unused = [sample.name for sample in samples if sample not in timed and sample is not keyed]
    joins = [f"  -- TODO: join {file}, or delete it from files" for file in unused]
    lines = [
        "# Drafted from sample files. Answer every TODO; `zigong source check` lists those that are left.",
        f"name: {name}",
        "data: private  # or public, simulated",
        'title: "TODO: what this source is"',
        "files:",
        *(line for sample in samples for line in _file_lines(sample)),
        "# One row per event. Times are UTC: to_utc_timestamp(local, :timezone). Codes become words with CASE.",
        "events: |",
        *joins,
        *"\n  UNION ALL\n".join("\n".join(_event_lines(sample)) for sample in timed).splitlines(),
        "# One row per version of a client's profile; attributes are words: bands, not numbers.",
        "profiles: |",
        *_profile_lines(keyed),
        "# When the platform learns of an event: a fixed lag, or {column: known_at} if the events SQL yields known_at.",
        "known_at: {lag: INTERVAL 1 DAY}",
        "# Event types that tell how a loan goes, and those after which it is closed.",
        "outcome_events: [todo]",
        "closing_events: []",
        "# Attributes whose values no person wrote, such as {channel: code}; the others are masked at ingest.",
        "attributes: {}",
    ]
    return "\n".join(lines) + "\n"


def _file_lines(sample: _Sample) -> Iterable[str]:
    yield f"  {sample.name}:"
    yield f"    path: {_scalar(sample.path)}"
    yield f"    format: {sample.format}"
    if sample.separator != ",":
        yield f"    separator: {json.dumps(sample.separator)}"
    yield "    columns:  # types and `required` are guesses from the sample; delete columns that the SQL does not use"
    for column in sample.columns:
        kind = "string" if column.identifier else column.type
        options = [f'type: "{kind}"' if "(" in kind else f"type: {kind}"]
        options += [f"{flag}: true" for flag in ("required", "identifier") if getattr(column, flag)]
        yield f"      {_scalar(column.name)}: {{{', '.join(options)}}}"


def _scalar(text: str) -> str:
    """A YAML scalar that reads back as this text: NO and 1 need quotes, client_id does not."""
    plain = re.fullmatch(r"[\w./-]+", text) and yaml.safe_load(text) == text
    return text if plain else json.dumps(text, ensure_ascii=False)


def _event_lines(sample: _Sample) -> list[str]:
    keys = [f"`{column.name}`" for column in sample.columns if column.identifier]
    amount = sample.first(lambda column: column.type.startswith("decimal"))
    return [
        "  SELECT",
        f"    {_user_key(sample)} AS user_key,  -- TODO: the client in {sample.name}; join where another file tells it",
        f"    concat_ws('|', '{sample.name}', {', '.join(keys or ['CAST(NULL AS STRING)'])}) AS event_key,"
        "  -- TODO: what names an event for good",
        "    CAST(NULL AS STRING) AS loan_key,  -- TODO: the loan, where the event has one",
        "    'upsert' AS op,",
        f"    '{sample.name}' AS event_type,  -- TODO: a word for each kind of event",
        f"    {_moment(sample)} AS event_at,  -- TODO: when it happened; a date alone means the end of its day",
        f"    {amount or 'CAST(NULL AS DECIMAL(18, 2))'} AS amount,",
        f"    {_CURRENCY if amount else 'CAST(NULL AS STRING) AS currency,'}",
        "    CAST(NULL AS INT) AS days_past_due,  -- TODO: where an outcome states it",
        "    CAST(map() AS MAP<STRING, STRING>) AS attributes  -- TODO: map('channel', channel, ...)",
        f"  FROM {sample.name}",
    ]


_CURRENCY = "'XXX' AS currency,  -- TODO: the ISO 4217 code of the amount"  # XXX says that there is none


def _profile_lines(sample: _Sample) -> list[str]:
    since = f"min({_moment(sample)})"
    user_key = _user_key(sample)
    return [
        "  SELECT",
        f"    {user_key} AS user_key,",
        f"    {since} AS valid_from,  -- TODO: since when the attributes hold",
        f"    {since} AS known_at,  -- TODO: when the platform learned of them",
        "    CAST(NULL AS STRING) AS person_key,  -- TODO: a unit wider than the account, where there is one",
        "    CAST(map() AS MAP<STRING, STRING>) AS attributes  -- TODO: map('age', CASE ... END, ...)",
        f"  FROM {sample.name}",
        f"  GROUP BY {user_key}",
    ]


def _moment(sample: _Sample) -> str:
    """The first time of a file in UTC; of a date alone the last microsecond, since its start may be too early."""
    time = sample.first(lambda column: column.type == "timestamp")
    if time:
        return f"to_utc_timestamp({time}, :timezone)"
    day = sample.first(lambda column: column.type == "date")
    if day is None:
        return "CAST(NULL AS TIMESTAMP)"
    return f"to_utc_timestamp(CAST(date_add({day}, 1) AS TIMESTAMP), :timezone) - INTERVAL 1 MICROSECOND"


def _user_key(sample: _Sample) -> str:
    """The first identifier that names a client, else the first one."""
    client = sample.first(lambda column: column.identifier and bool(re.match(_CLIENT, column.name.lower())))
    return client or sample.first(lambda column: column.identifier) or "CAST(NULL AS STRING)"


_CLIENT = r"(client|customer|user|person|member|borrower|account)"
