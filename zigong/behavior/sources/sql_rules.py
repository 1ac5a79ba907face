"""What the SQL of a mapping has to keep: functions and tables it may use, columns that keys are made of, same rows
at each run. Every rule raises the same error in ``zigong source check`` and in ingest."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from pyspark.sql import DataFrame, SparkSession

from schemas.mappings import SourceColumn, SourceMapping
from zigong.behavior.sources.allowed_sql import SqlReading, read_sql
from zigong.behavior.sources.lineage import shown_columns, shown_functions, used_functions
from zigong.behavior.sources.sql_functions import CHANGES, REFUSED_FUNCTIONS
from zigong.errors import DataError

SHOWN_NAMES = 3


def require_allowed(
    spark: SparkSession, mapping: SourceMapping, section: str, texts: Sequence[tuple[str, str]]
) -> SqlReading:
    """Reads the texts of a section before Spark may run anything of them.

    Args:
        section: events or profiles.
        texts: name and SQL of each derived view, then of the section itself; a text may read those before it.

    Raises:
        DataError: a text is no query over the files of the mapping, or calls a function that is not allowed.
        ParseException: a text is not SQL.
    """
    tables, all_texts = [file.name for file in mapping.files], SqlReading()
    for name, sql in texts:
        found = read_sql(spark, sql, tables)
        if found.refused:
            where = section if name == section else f"derived {name}"
            raise DataError(
                f"source mapping {mapping.origin}: {where}: {_listed(found.refused, '; ')}",
                action="use only the files, the derived views and the functions that docs/sources.md lists",
            )
        all_texts.changing |= found.changing
        all_texts.ordered |= found.ordered
        tables.append(name)
    return all_texts


def require_repeatable(found: DataFrame, mapping: SourceMapping, section: str, reading: SqlReading) -> None:
    """Refuses a query whose columns or rows change with the time, the session or by chance.

    Raises:
        DataError: it names the columns and the functions.
    """
    if not reading.changing:
        return
    by_column = shown_functions(found, REFUSED_FUNCTIONS)
    faults = [f"{column} uses {_reasons(names)}" for column, names in by_column.items()]
    used = used_functions(found, REFUSED_FUNCTIONS)
    if not faults and used:
        faults = [f"its rows depend on {_reasons(used)}"]
    if faults:
        raise DataError(
            f"source mapping {mapping.origin}: {section}: {'; '.join(faults)}",
            action="use columns of the files instead: the same files must give the same rows at each run",
        )


def require_hidden(found: DataFrame, mapping: SourceMapping, section: str) -> None:
    """Refuses a query that shows an identifier outside the keys, or a key of a private source made of other columns.

    Raises:
        DataError: it names the column and what it shows.
    """
    declared = {f"{file.name}.{column.name}": column for file in mapping.files for column in file.columns}
    for column, names in shown_columns(found).items():
        if column.endswith("_key"):
            continue
        identifiers = [name for name in names if declared[name].identifier]
        if identifiers:
            raise DataError(
                f"source mapping {mapping.origin}: {column} of {section} exposes {', '.join(identifiers)}, which the "
                "mapping declares an identifier; identifiers are allowed in keys only",
                action=f"remove it from {column}, or derive a word from it before it enters the files",
            )
    if mapping.data == "private":
        for column, names in shown_columns(found, conditions=False).items():
            if column.endswith("_key"):
                _require_identified(mapping, section, column, [(name, declared[name]) for name in names])


def _require_identified(
    mapping: SourceMapping, section: str, key: str, columns: Sequence[tuple[str, SourceColumn]]
) -> None:
    """Refuses a key made of columns whose raw values could leave ingest.

    A key of a user or a loan is made of identifiers, with dates, numbers and listed words as further parts. A key of an
    event needs one identifier, that of a person one, or several columns that name nobody alone.
    """
    undeclared = [name for name, column in columns if not column.identifier]
    identified = len(undeclared) < len(columns)
    refused = undeclared if not identified and (key != "person_key" or len(columns) == 1) else []
    if identified and key in {"user_key", "loan_key"}:
        kinds = dict(columns)
        refused = [name for name in undeclared if kinds[name].type == "string" and not kinds[name].values]
    if refused:
        verb = "is" if len(refused) == 1 else "are"
        raise DataError(
            f"source mapping {mapping.origin}: {section}: {key} is made of {_listed(refused, ', ')}, which {verb} not "
            "declared identifier: the raw value could reach attributes and quarantine",
            action="declare `identifier: true` for the columns that name a client, a loan, an event or a person",
        )


def _reasons(functions: Iterable[str]) -> str:
    return ", ".join(f"{name}(), which {REFUSED_FUNCTIONS.get(name, CHANGES)}" for name in functions)


def _listed(parts: Sequence[str], separator: str) -> str:
    more = f" and {len(parts) - SHOWN_NAMES} more" if len(parts) > SHOWN_NAMES else ""
    return separator.join(parts[:SHOWN_NAMES]) + more
