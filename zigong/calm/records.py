"""Records of a task: the raw file read as text, checked, cleaned, and joined with the answer of each record."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv

from zigong.calm.task_files import Column, Task
from zigong.errors import ConfigError, DataError

_SEPARATORS = {"space": " ", "comma": ","}
_NUMBER = r"^[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?$"


@dataclass(frozen=True, kw_only=True)
class Record:
    """One row of a raw file.

    Attributes:
        row: number of the row in the raw file, from 0, without the header.
        values: cells of the features as text, in the order of the columns, after the cleaning rules.
        truth: the choice that the label stands for.
    """

    row: int
    values: tuple[str, ...]
    truth: str


@dataclass(frozen=True, kw_only=True)
class RawTable:
    """The cleaned rows of a raw file as columns of text.

    Attributes:
        task: the task.
        cells: one column per feature, named as in the task.
        truths: choice of each row.
    """

    task: Task
    cells: pa.Table
    truths: list[str]

    def __len__(self) -> int:
        return len(self.truths)

    def records(self, rows: list[int]) -> list[Record]:
        """The records of these rows, in their order."""
        columns = self.cells.take(pa.array(rows, pa.int64())).to_pydict().values()
        return [
            Record(row=row, values=values, truth=self.truths[row])
            for row, values in zip(rows, zip(*columns, strict=True), strict=True)
        ]


def read_raw(task: Task, folder: Path) -> RawTable:
    """Reads the raw file of a task.

    Raises:
        ConfigError: the file is absent.
        DataError: its columns are not those of the task, or a cell is empty, no number, or an unknown code.
    """
    file = folder / task.file
    if not file.is_file():
        raise ConfigError(f"task {task.name}: {file} does not exist", action="give --data the folder of the raw files")
    names = [column.column for column in task.columns]
    table = _read(file, task, names)
    if task.header and table.column_names != names:
        raise DataError(
            f"{file}: expected the columns {', '.join(names)}; found {', '.join(table.column_names)}",
            action=f"use the data set that docs/calm.md names for {task.name}",
        )
    table = table.slice(0, task.first_rows)
    cells = {column.column: _checked(table[column.column], column, file, task) for column in task.features}
    labels = _known(table[task.label.column], task.answers, task.label, file, task)
    return RawTable(task=task, cells=pa.table(cells), truths=[task.answers[label] for label in labels.to_pylist()])


def _read(file: Path, task: Task, names: list[str]) -> pa.Table:
    try:
        return csv.read_csv(
            file,
            read_options=csv.ReadOptions(column_names=None if task.header else names),
            parse_options=csv.ParseOptions(delimiter=_SEPARATORS[task.separator]),
            convert_options=csv.ConvertOptions(
                column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=False, check_utf8=True
            ),
        )
    except pa.ArrowInvalid as error:
        reason = str(error).partition(":")[0]  # what follows may quote a row
        raise DataError(
            f"{file}: expected lines of {len(names)} cells separated by a {task.separator}; reading failed ({reason})",
            action=f"use the data set that docs/calm.md names for {task.name}",
        ) from error


def _checked(cells: pa.ChunkedArray, column: Column, file: Path, task: Task) -> pa.ChunkedArray:
    """The cells of a feature in the form of its kind, after its cleaning rules."""
    if column.kind == "code":
        return _known(cells, column.codes, column, file, task)
    if column.kind == "word":
        _require(pc.not_equal(pc.utf8_trim_whitespace(cells), ""), "a word", column, file, task)
        return cells
    _require(pc.match_substring_regex(cells, _NUMBER), "a number", column, file, task)
    return _cleaned(cells, column)


def _cleaned(cells: pa.ChunkedArray, column: Column) -> pa.ChunkedArray:
    numbers = pc.cast(cells, pa.float64())
    if column.at_most is not None:
        cells = pc.if_else(pc.greater(numbers, column.at_most), f"{column.at_most:g}", cells)
        numbers = pc.min_element_wise(numbers, column.at_most)
    if column.mean_below is not None:
        mean = pc.mean(numbers).as_py()
        cells = pc.if_else(pc.less(numbers, column.mean_below), f"{mean:.3f}", cells)
    return cells


def _known(cells: pa.ChunkedArray, codes: dict[str, str], column: Column, file: Path, task: Task) -> pa.ChunkedArray:
    _require(pc.is_in(cells, pa.array(list(codes))), f"one of {', '.join(codes)}", column, file, task)
    return cells


def _require(fits: pa.ChunkedArray, expected: str, column: Column, file: Path, task: Task) -> None:
    if pc.all(fits, min_count=0).as_py():
        return
    first = pc.index(fits, False).as_py() + 1 + task.header
    wrong = len(fits) - pc.sum(fits).as_py()
    raise DataError(
        f"{file}: column {column.column}: expected {expected}; {wrong} other cells, the first in line {first}",
        action="correct or remove these lines; none are dropped, since the splits count rows",
    )
