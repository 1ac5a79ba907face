"""Reads source mappings: YAML with columns and SQL that turns a raw source into events and profiles, without code.

A mapping names files and their columns, optional derived views, and the SQL that yields events and profiles. The SQL
sees every file and derived view by its name, and one parameter: ``:timezone``, the business time zone. Each file has
one more column: ``_line``, the line in which a row begins (Parquet: the number of the row; Delta: none).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path

from pydantic import ValidationError

from schemas.documents import explain, text_content
from schemas.mapping_file import NAME, FileSection, MappingFile


@dataclass(frozen=True, kw_only=True)
class SourceColumn:
    """One column of a raw file; a row with a value that does not fit goes to quarantine."""

    name: str
    type: str
    required: bool
    identifier: bool  # raw values leave ingest only as keyed digests
    values: tuple[str, ...]  # allowed raw texts; empty: any
    minimum: float | None = None  # smallest allowed number; an amount that is never negative has 0
    note: str = ""  # for readers of the mapping; the check lists its TODOs


@dataclass(frozen=True, kw_only=True)
class SourceFile:
    """One raw file, or a folder of them, and the columns the mapping reads."""

    name: str
    path: str  # relative to the recipe's source.path
    format: str
    separator: str  # csv: field separator
    header: bool  # csv: whether the first line names the columns; else they are those of the mapping, in its order
    null_values: tuple[str, ...]  # texts that mean a missing value, in addition to the empty text
    columns: tuple[SourceColumn, ...]
    encoding: str = "utf-8"  # csv, json: of the characters
    escape: str = '"'  # csv: before a quote inside a quoted cell; the quote itself: quotes are doubled
    multiline: bool = True  # csv: whether a quoted cell may hold line ends
    skip_lines: int = 0  # csv: lines before the header or the first row, such as notes
    arrival: str | None = None  # pattern of the date in its path: {yyyy}, {mm} and {dd}


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
    known_at_lag: str | None  # None: the events have a column known_at
    outcome_events: tuple[str, ...]
    closing_events: tuple[str, ...]
    attribute_codes: tuple[str, ...]  # attributes whose values no person wrote; the others are masked at ingest
    max_refused_share: float  # of raw rows; beyond it a delivery is considered broken and is not published
    digest: str
    id_namespace: str | None = None  # sources of one namespace know a client by the same id; None: the lakehouse's own
    full_events: bool = False  # whether an event that a delivery leaves out is withdrawn
    full_profiles: bool = False  # whether the profile of a client that a delivery leaves out ends
    refuse_changes: bool = False  # whether a row that differs from the published one is refused, not made a version

    @property
    def by_arrival(self) -> bool:
        """Whether a file states when it arrived, so that a run of dates reads only the files of these dates."""
        return any(file.arrival is not None for file in self.files)

    @property
    def known_at_basis(self) -> str:
        """``measured`` if the source has known_at, ``assumed`` if the mapping adds a lag."""
        return "measured" if self.known_at_lag is None else "assumed"


def mapping_names() -> tuple[str, ...]:
    """Names of the shipped mappings, sorted."""
    shipped = files("schemas").joinpath("sources")
    return tuple(sorted(entry.name.removesuffix(".yaml") for entry in shipped.iterdir() if ".yaml" in entry.name))


def load_mapping(name_or_path: str | Path) -> SourceMapping:
    """Reads a shipped mapping by name, or a mapping file by path.

    Raises:
        ValueError: no such mapping, or invalid content; the message names file, field and what is allowed.
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
    content = text_content(text, origin=origin)
    try:
        file = MappingFile.model_validate(content)
    except ValidationError as error:
        raise ValueError(explain(error, MappingFile, origin=origin)) from error
    return _mapping(file, origin, hashlib.sha256(text.encode()).hexdigest())


def _resource(name_or_path: str | Path) -> Traversable:
    shipped = files("schemas").joinpath("sources", f"{name_or_path}.yaml")
    return shipped if NAME.fullmatch(str(name_or_path)) and shipped.is_file() else Path(name_or_path)


def _mapping(file: MappingFile, origin: str, digest: str) -> SourceMapping:
    return SourceMapping(
        name=file.name,
        origin=origin,
        data=file.data,
        title=file.title,
        description=file.description,
        license=file.license,
        files=tuple(_file(name, section) for name, section in file.files.items()),
        derived=tuple(file.derived.items()),
        events_sql=file.events,
        profiles_sql=file.profiles,
        known_at_lag=file.known_at.lag.upper() or None,
        outcome_events=tuple(file.outcome_events),
        closing_events=tuple(file.closing_events),
        attribute_codes=tuple(name for name, kind in file.attributes.items() if kind == "code"),
        max_refused_share=file.max_refused_share,
        digest=digest,
        id_namespace=file.id_namespace,
        full_events=file.deliveries.events == "full",
        full_profiles=file.deliveries.profiles == "full",
        refuse_changes=file.deliveries.redelivery == "refuse",
    )


def _file(name: str, section: FileSection) -> SourceFile:
    return SourceFile(
        name=name,
        path=section.path,
        format=section.format,
        separator=section.separator,
        header=section.header,
        null_values=tuple(section.null_values),
        arrival=section.arrival,
        columns=tuple(
            SourceColumn(
                name=column,
                type=item.type,
                required=item.required,
                identifier=item.identifier,
                values=tuple(item.values),
                minimum=item.minimum,
                note=item.note,
            )
            for column, item in section.columns.items()
        ),
        encoding=section.encoding,
        escape=section.escape,
        multiline=section.multiline,
        skip_lines=section.skip_lines,
    )
