"""Tasks of the CALM benchmark: raw files to records."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.calm_files import write_raw
from zigong.calm.records import read_raw
from zigong.calm.task_files import TASKS, Task, load_task
from zigong.errors import ConfigError, DataError

TRAVEL_HEAD = (
    "Agency,Agency Type,Distribution Channel,Product Name,Claim,Duration,Destination,Net Sales,Commision (in value),"
    "Gender,Age"
)


def travel(folder: Path, rows: list[tuple[str, str, str]]) -> Path:
    """Rows of claim, duration and age."""
    lines = [f"ABC,Agency,Online,Plan A,{claim},{days},PERU,20.5,-3,,{age}" for claim, days, age in rows]
    file = folder / "travel insurance.csv"
    file.write_text("\n".join([TRAVEL_HEAD, *lines]) + "\n", "utf-8")
    return file


@pytest.mark.parametrize("name", TASKS)
def test_every_task_reads_a_file_of_its_form_row_by_row(name: str, tmp_path: Path) -> None:
    write_raw(name, tmp_path, 30)
    task, raw = load_task(name), read_raw(load_task(name), tmp_path)
    records = raw.records([7, 3])
    assert len(raw) == 30
    assert [record.row for record in records] == [7, 3]
    assert all(len(record.values) == len(task.features) for record in records)
    assert set(raw.truths) == set(task.choices)


def test_the_choices_stand_in_the_order_in_which_answers_are_searched() -> None:
    assert {name: tuple(load_task(name).choices) for name in TASKS} == {
        "german": ("good", "bad"),
        "australia": ("good", "bad"),
        "credit_card_fraud": ("no", "yes"),
        "ccfraud": ("no", "yes"),
        "travel_insurance": ("yes", "no"),
    }


def test_travel_numbers_are_capped_and_short_travels_get_the_mean_after_the_cap(tmp_path: Path) -> None:
    travel(tmp_path, [("Yes", "1000", "118"), ("No", "0", "36"), ("No", "-2", "99"), ("No", "7", "20")])
    raw = read_raw(load_task("travel_insurance"), tmp_path)
    assert raw.cells["Duration"].to_pylist() == ["731", "184.000", "184.000", "7"]  # (731 + 0 - 2 + 7) / 4
    assert raw.cells["Age"].to_pylist() == ["99", "36", "99", "20"]
    assert "Gender" not in raw.cells.column_names
    assert raw.truths == ["yes", "no", "no", "no"]


def test_only_the_first_rows_of_ccfraud_belong_to_the_benchmark(tmp_path: Path) -> None:
    write_raw("ccfraud", tmp_path, 12)
    task = load_task("ccfraud")
    assert task.first_rows == 1_048_575
    assert len(read_raw(task.model_copy(update={"first_rows": 9}), tmp_path)) == 9


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        (("No", "soon", "30"), "column Duration: expected a number; 1 other cells, the first in line 3"),
        (("No", "", "30"), "column Duration: expected a number; 1 other cells, the first in line 3"),
        (("Maybe", "3", "30"), "column Claim: expected one of Yes, No; 1 other cells, the first in line 3"),
    ],
)
def test_a_wrong_cell_is_named_by_column_and_line_and_never_quoted(
    row: tuple[str, str, str], expected: str, tmp_path: Path
) -> None:
    travel(tmp_path, [("Yes", "1", "20"), row, ("No", "2", "20")])
    with pytest.raises(DataError) as caught:
        read_raw(load_task("travel_insurance"), tmp_path)
    assert expected in caught.value.message
    assert "soon" not in str(caught.value)
    assert "Maybe" not in str(caught.value)


def test_an_unknown_code_a_short_line_and_other_columns_are_refused(tmp_path: Path) -> None:
    file = write_raw("german", tmp_path, 5)
    lines = file.read_text("utf-8").splitlines()
    for changed, expected in ((lines[2].replace("A11 ", "A19 ").replace("A14 ", "A19 "), "A11, A12"), ("A11 6", "21")):
        file.write_text("\n".join([*lines[:2], changed, *lines[3:]]) + "\n", "utf-8")
        with pytest.raises(DataError, match=expected) as caught:
            read_raw(load_task("german"), tmp_path)
        assert "A19" not in str(caught.value)
    other = travel(tmp_path, [("Yes", "1", "20")])
    other.write_text(other.read_text("utf-8").replace("Claim", "Claims"), "utf-8")
    with pytest.raises(DataError, match=r"expected the columns Agency, .* found Agency"):
        read_raw(load_task("travel_insurance"), tmp_path)


def test_an_absent_file_and_an_unknown_task_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"german.data does not exist"):
        read_raw(load_task("german"), tmp_path)
    with pytest.raises(ConfigError, match=r"german, australia, .* found 'taiwan'"):
        load_task("taiwan")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"choices": ["good"]}, "two choices"),
        ({"bad": "awful"}, "among the choices"),
        ({"columns": [column.model_dump() for column in load_task("australia").columns[1:]]}, "for 13 features"),
    ],
)
def test_a_task_that_contradicts_itself_is_refused(change: dict[str, object], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        Task.model_validate({**load_task("australia").model_dump(), **change})
