"""Checks a source mapping and its files and reports every problem before anything is written.

Raw values never leave this module: examples show only the shape of a field (letters become a, digits become 9), and
fields of identifier columns are not shown at all.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Collection, Mapping
from functools import partial

from py4j.protocol import Py4JJavaError
from pyspark.errors import PySparkException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from schemas.contracts import table_contract
from schemas.mappings import SourceFile, SourceMapping
from zigong.behavior.sources.casts import outside_java
from zigong.behavior.sources.column_findings import odd_columns
from zigong.behavior.sources.faults import cause_of, stop_recording
from zigong.behavior.sources.file_findings import rows_of_files, unread_findings, with_empty_files
from zigong.behavior.sources.findings import SourceCheck, SourceFinding, Summary
from zigong.behavior.sources.identifiers import require_exact_identifiers
from zigong.behavior.sources.ingest import Versions, deduplicated, stated_events, stated_profiles
from zigong.behavior.sources.key_health import empty_key_findings, shared_key_findings
from zigong.behavior.sources.masking import shown_names
from zigong.behavior.sources.months import month_findings
from zigong.behavior.sources.query import queried_rows
from zigong.behavior.sources.raw import raw_tables
from zigong.behavior.sources.reading import column_names, found_cells, missing_columns, padded
from zigong.behavior.sources.repeats import repeated_events, repeated_profiles
from zigong.behavior.sources.row_counts import row_counts
from zigong.behavior.sources.row_findings import bad_cells, broken_by, unfit_values
from zigong.behavior.sources.row_order import order_findings
from zigong.behavior.sources.sql_findings import conversion_findings, failing_columns
from zigong.behavior.sources.zones import local_columns, refuse_offsets
from zigong.errors import DataError

_TODO = re.compile(r"\bTODO\b:?\s*(.*)")


def check_source(
    spark: SparkSession,
    mapping: SourceMapping,
    path: str,
    *,
    timezone: str,
    progress: Callable[[str], None] = lambda _: None,
) -> SourceCheck:
    """Finds every problem of a mapping and its files below ``path``; writes nothing.

    Args:
        spark: the session.
        mapping: the mapping to check.
        path: folder of the raw files, as source.path of a recipe.
        timezone: business time zone.
        progress: called with what is checked next.

    Spark's log and event log stay stopped afterwards: computations that failed would report raw values.
    """
    stop_recording(spark)
    findings = _open_questions(mapping)
    found = {file.name: _found(spark, file, path, findings) for file in mapping.files}
    findings += unread_findings(mapping, path)
    complete = all(frame is not None and not missing_columns(file, frame) for file, frame in _pairs(mapping, found))
    try:
        raw = raw_tables(mapping, {file.name: padded(spark, file, frame) for file, frame in _pairs(mapping, found)})
    except DataError as error:
        findings.append(SourceFinding(section="files", problem=error.message, action=error.action))
        return SourceCheck(findings=tuple(findings), summary=None)
    local = local_columns(spark, raw, mapping)
    raw = refuse_offsets(raw, mapping, local)
    file_rows: dict[str, dict[str, int]] = {}
    for file, frame in _pairs(mapping, found):
        if frame is not None:
            progress(f"files: {file.name}")
            absent = missing_columns(file, frame)
            file_rows[file.name] = _checked_file(raw.cells[file.name], file, absent, local, findings)
    key = secrets.token_bytes(32)  # nothing is written, so any key will do

    def events() -> DataFrame:
        return stated_events(spark, raw, mapping, key=key, buckets=1, timezone=timezone)

    def profiles() -> DataFrame:
        return stated_profiles(spark, raw, mapping, key=key, timezone=timezone)

    progress("events and profiles")
    stated = [_stated(section, query, findings) for section, query in (("events", events), ("profiles", profiles))]
    if not complete or None in stated:
        return SourceCheck(findings=tuple(findings), summary=None)
    versions = [
        _versions(frame, table, findings, partial(failing_columns, spark, raw, mapping, timezone))
        for frame, table in zip(stated, ("behavior_events", "user_profiles"), strict=True)
    ]
    if versions[0] is None or versions[1] is None:
        return SourceCheck(findings=tuple(findings), summary=None)
    for section in ("events", "profiles"):
        rows = queried_rows(spark, raw, mapping, section, timezone)
        findings += [*empty_key_findings(rows, section), *order_findings(rows, section), *month_findings(rows)]
    progress("conversions")
    findings += conversion_findings(spark, raw, mapping, timezone)
    findings += repeated_events(raw, mapping, versions[0]) + repeated_profiles(versions[1])
    findings += shared_key_findings(versions[0].kept, versions[1].kept)
    summary = _summary(mapping, path, file_rows, versions[0].kept, versions[1].kept)
    findings += _outcomes(mapping, summary)
    return SourceCheck(findings=tuple(findings), summary=summary)


def _pairs(mapping: SourceMapping, found: Mapping[str, DataFrame | None]) -> list[tuple[SourceFile, DataFrame | None]]:
    return [(file, found[file.name]) for file in mapping.files]


def _open_questions(mapping: SourceMapping) -> list[SourceFinding]:
    """The TODO markers that ``zigong source new`` wrote and that are still in the texts of a mapping."""
    texts = {"title": mapping.title, "description": mapping.description, "license": mapping.license}
    texts |= {f"derived: {name}": text for name, text in mapping.derived}
    texts |= {f"files: {file.name}: {column.name}": column.note for file in mapping.files for column in file.columns}
    texts |= {"events": mapping.events_sql, "profiles": mapping.profiles_sql}
    return [
        SourceFinding(
            section=section, problem=f"open: {question.strip() or 'TODO'}", action="answer it, then delete the TODO"
        )
        for section, text in texts.items()
        for question in _TODO.findall(text)
    ]


def _found(spark: SparkSession, file: SourceFile, path: str, findings: list[SourceFinding]) -> DataFrame | None:
    section = f"files: {file.name}"
    try:
        found = found_cells(spark, file, path)
    except DataError as error:
        findings.append(SourceFinding(section=section, problem=error.message, action=error.action))
        return None
    except (PySparkException, Py4JJavaError) as error:
        findings.append(
            SourceFinding(
                section=section, problem=f"cannot be read as {file.format}: {cause_of(error)}", action="check format"
            )
        )
        return None
    try:
        require_exact_identifiers(file, found)
    except DataError as error:
        findings.append(SourceFinding(section=section, problem=error.message, action=error.action))
    names = ", ".join(shown_names(column_names(found), [column.name for column in file.columns]))
    findings += [
        SourceFinding(
            section=section,
            column=name,
            problem=f"the file has no such column; it has {names}",
            action="correct the name in columns, or use the file the mapping was written for",
        )
        for name in missing_columns(file, found)
    ]
    return found


def _checked_file(
    cells: DataFrame,
    file: SourceFile,
    absent: tuple[str, ...],
    local: Collection[str],
    findings: list[SourceFinding],
) -> dict[str, int]:
    """Appends the findings on the fields of a section; returns the number of rows by file."""
    section = f"files: {file.name}"
    try:
        rows = rows_of_files(cells)
        reported = [*bad_cells(cells, file), *odd_columns(cells, file, local)]
        findings += [finding for finding in reported if finding.column not in absent]
        findings += row_counts(cells, file).findings()
    except (PySparkException, Py4JJavaError) as error:
        findings.append(
            SourceFinding(section=section, problem=f"reading fails: {cause_of(error)}", action="check the file")
        )
        return {}
    if not any(rows.values()):
        action = "none if such a file may be empty; otherwise provide all rows"
        findings.append(SourceFinding(section=section, problem="the file has no rows", action=action, blocking=False))
    return rows


def _stated(section: str, query: Callable[[], DataFrame], findings: list[SourceFinding]) -> DataFrame | None:
    """The rows that the SQL of a section yields, not computed yet; None if the SQL does not run."""
    try:
        return query()
    except DataError as error:
        findings.append(SourceFinding(section=section, problem=error.message, action=error.action))
    except PySparkException as error:
        findings.append(
            SourceFinding(section=section, problem=cause_of(error), action=f"correct {section} of the mapping")
        )
    return None


def _versions(
    frame: DataFrame, table: str, findings: list[SourceFinding], failing: Callable[[str], tuple[str, ...]]
) -> Versions | None:
    """Appends the findings on the rows of a table; None if computing them fails."""
    section = "events" if table == "behavior_events" else "profiles"
    try:
        versions = deduplicated(frame, table=table)
    except (PySparkException, Py4JJavaError) as error:
        findings.append(
            SourceFinding(
                section=section,
                column=", ".join(failing(section)) or None,
                problem=f"the SQL fails on some rows: {cause_of(error)}; a run stops",
                action="use try_cast or CASE where a value may not fit",
            )
        )
        return None
    findings += unfit_values(versions.unfit, section) + broken_by(versions.kept, table, section)
    findings += _contradicting(versions, table, section)
    return versions


def _contradicting(versions: Versions, table: str, section: str) -> list[SourceFinding]:
    findings = []
    if contradicting := versions.conflicting.count():
        findings.append(
            SourceFinding(
                section=section,
                column="event_key" if section == "events" else "user_key",
                problem=f"duplicate keys with different contents; differing: {', '.join(_differing(versions, table))}",
                rows=contradicting,
                action="make the key more specific, or give the versions different values of known_at",
            )
        )
    return findings


def _differing(versions: Versions, table: str) -> list[str]:
    """Columns in which rows with the same key differ."""
    contract = table_contract(table)
    others = [name for name in contract.column_names if name not in contract.key]
    text = {name: F.coalesce(F.to_json(F.struct(name)), F.lit("")) for name in others}
    keys = versions.conflicting.select(*contract.key).distinct()
    rows = versions.kept.unionByName(versions.conflicting).join(keys, [*contract.key], "left_semi")
    differs = [(F.size(F.collect_set(text[name])) > 1).cast("int").alias(name) for name in others]
    by_key = rows.groupBy(*contract.key).agg(*differs)
    counts = by_key.agg(*(F.max(name).alias(name) for name in others)).first()
    return [name for name in others if counts[name]]


def _summary(
    mapping: SourceMapping, path: str, rows: Mapping[str, Mapping[str, int]], events: DataFrame, profiles: DataFrame
) -> Summary:
    types = {row["event_type"]: row["count"] for row in events.groupBy("event_type").count().collect()}
    event_at, known_at = (F.when(outside_java(F.col(name)), F.col(name)) for name in ("event_at", "known_at"))
    span = events.agg(
        F.min(event_at).alias("first_event_at"),
        F.max(event_at).alias("last_event_at"),
        F.min(known_at).alias("first_known_at"),
        F.max(known_at).alias("last_known_at"),
        F.count_distinct("user_id").alias("users"),
    ).first()
    return Summary(
        file_rows={name: sum(of_files.values()) for name, of_files in rows.items()},
        read_files=with_empty_files(mapping, path, rows),
        events=sum(types.values()),
        profiles=profiles.count(),
        event_types=dict(sorted((str(name), count) for name, count in types.items())),
        **span.asDict(),
    )


def _outcomes(mapping: SourceMapping, summary: Summary) -> list[SourceFinding]:
    """Event types of the mapping that never occur: a typing error, or a sample that is too small."""
    if summary.events == 0:
        return [SourceFinding(section="events", problem="no events", action="check joins and filters of the SQL")]
    absent = {
        section: [word for word in words if word not in summary.event_types]
        for section, words in (("outcome_events", mapping.outcome_events), ("closing_events", mapping.closing_events))
    }
    none_at_all = len(absent["outcome_events"]) == len(mapping.outcome_events)
    return [
        SourceFinding(
            section=section,
            problem=f"never occur: {', '.join(words)}",
            action="correct the words, or the event_type of the SQL; without outcomes no client gets a label"
            if none_at_all
            else "none if the files are a sample; otherwise correct the words",
            blocking=none_at_all,
        )
        for section, words in absent.items()
        if words
    ]
