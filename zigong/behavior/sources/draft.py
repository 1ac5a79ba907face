"""Drafts a commented source mapping for new files from the first rows of a sample of each.

Of the values of the sample only short codes that repeat enter the mapping (``values``); the rest is names, types and
positions of columns.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from zigong.behavior.sources.sample import SourceSample, read_sample, word
from zigong.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class MappingDraft:
    """The text of a drafted mapping, the folder of its files, and what was assumed about them."""

    text: str
    folder: Path
    notes: tuple[str, ...] = ()


def drafted_mapping(files: Sequence[Path], *, name: str | None = None, encoding: str | None = None) -> MappingDraft:
    """Drafts a mapping for sample files; every open question in it is marked TODO.

    Args:
        files: as :func:`zigong.behavior.sources.sample.read_sample` takes.
        name: name of the source; default: that of the first file.
        encoding: of the text files; None: UTF-8, or what their bytes show.

    Raises:
        ConfigError: a file is missing or has no known format, or the encoding is unknown.
        DataError: a file does not have the format that its name states.
    """
    if encoding is not None:
        _require_encoding(encoding)
    folder = Path(os.path.commonpath([file.resolve().parent for file in files]))
    samples = [read_sample(file, str(file.resolve().relative_to(folder)), encoding=encoding) for file in files]
    notes = tuple(f"{sample.path}: {note}" for sample in samples for note in sample.notes)
    return MappingDraft(text=_mapping_text(word(name or samples[0].name), samples), folder=folder, notes=notes)


def _require_encoding(encoding: str) -> None:
    try:
        "".encode(encoding)
    except LookupError as error:
        raise ConfigError(
            f"--encoding {encoding} is unknown", action="use utf-8, windows-1252, iso-8859-15, utf-16 or another one"
        ) from error


def _mapping_text(name: str, samples: Sequence[SourceSample]) -> str:
    timed = [sample for sample in samples if sample.first(lambda column: column.is_time)] or list(samples[:1])
    keyed = max(samples, key=_fitness_for_profiles)
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
        "# Event types that show how a loan performs, and those that close it.",
        "outcome_events: [todo]",
        "closing_events: []",
        "# Attributes whose values no person wrote, such as {channel: code}; the others are masked at ingest.",
        "attributes: {}",
    ]
    return "\n".join(lines) + "\n"


def _fitness_for_profiles(sample: SourceSample) -> tuple[bool, bool, bool]:
    """A client and a time are best, then a client, then any identifier."""
    client = sample.first(lambda column: column.names_client) is not None
    timed = sample.first(lambda column: column.is_time) is not None
    return client, client and timed, sample.first(lambda column: column.identifier) is not None


def _file_lines(sample: SourceSample) -> Iterable[str]:
    yield f"  {sample.name}:"
    yield f"    path: {_scalar(sample.path)}"
    yield f"    format: {sample.format}"
    if sample.dialect.separator != ",":
        yield f"    separator: {json.dumps(sample.dialect.separator)}"
    if sample.dialect.encoding != "utf-8":
        yield f"    encoding: {sample.dialect.encoding}"
    if sample.dialect.skip_lines:
        yield f"    skip_lines: {sample.dialect.skip_lines}"
    if not sample.header:
        yield "    header: false"
    yield "    columns:  # types and `required` are guesses from the sample; delete columns that the SQL does not use"
    for column in sample.columns:
        kind = "string" if column.identifier else column.type
        options = [f'type: "{kind}"' if "(" in kind else f"type: {kind}"]
        options += [f"{flag}: true" for flag in ("required", "identifier") if getattr(column, flag)]
        options += [f"values: [{', '.join(map(_item, column.values))}]"] if column.values else []
        options += [f'note: "TODO: {column.note}"'] if column.note else []
        yield f"      {_scalar(column.name)}: {{{', '.join(options)}}}"


def _scalar(text: str) -> str:
    """A YAML scalar that reads back as this text: NO and 1 need quotes, client_id does not."""
    plain = re.fullmatch(r"[\w./-]+", text) and yaml.safe_load(text) == text
    return text if plain else json.dumps(text, ensure_ascii=False)


def _item(text: str) -> str:
    """An item of a YAML list, which a mapping reads as the text it is."""
    return text if re.fullmatch(r"[\w.+-]+", text) else json.dumps(text, ensure_ascii=False)


def _event_lines(sample: SourceSample) -> list[str]:
    keys = [f"`{column.name}`" for column in sample.columns if column.identifier and not column.is_contact]
    amount = sample.first(lambda column: column.type.startswith("decimal"))
    return [
        "  SELECT",
        f"    {_user_key(sample)} AS user_key,  -- TODO: the client in {sample.name}; join if another file has it",
        f"    concat_ws('|', '{sample.name}', {', '.join(keys or ['CAST(NULL AS STRING)'])}) AS event_key,"
        "  -- TODO: what identifies an event permanently",
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


_CURRENCY = "'XXX' AS currency,  -- TODO: the ISO 4217 code of the amount"  # XXX is ISO 4217 for no currency


def _profile_lines(sample: SourceSample) -> list[str]:
    # Late on purpose: an attribute that is taken as known too early leaks the future into training.
    since = f"(SELECT max({_moment(sample)}) FROM {sample.name})"  # noqa: S608 - a word and quoted names
    user_key = _user_key(sample)
    return [
        "  SELECT",
        f"    {user_key} AS user_key,",
        f"    {since} AS valid_from,  -- TODO: since when the attributes hold; drafted late",
        f"    {since} AS known_at,  -- TODO: when the platform learned of them: the day of the delivery",
        "    CAST(NULL AS STRING) AS person_key,  -- TODO: a unit wider than the account, where there is one",
        "    CAST(map() AS MAP<STRING, STRING>) AS attributes  -- TODO: map('age', CASE ... END, ...)",
        f"  FROM {sample.name}",
        f"  GROUP BY {user_key}",
    ]


def _moment(sample: SourceSample) -> str:
    """The first time column in UTC; for a date column the end of the day, since its start may be too early."""
    time = sample.first(lambda column: column.type == "timestamp")
    if time:
        return f"to_utc_timestamp({time}, :timezone)"
    day = sample.first(lambda column: column.type == "date")
    if day is None:
        return "CAST(NULL AS TIMESTAMP)"
    return f"to_utc_timestamp(CAST(date_add({day}, 1) AS TIMESTAMP), :timezone) - INTERVAL 1 MICROSECOND"


def _user_key(sample: SourceSample) -> str:
    """The first identifier that names a client, else the first one."""
    client = sample.first(lambda column: column.names_client)
    return client or sample.first(lambda column: column.identifier) or "CAST(NULL AS STRING)"
