"""Prompts of the CALM benchmark."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.support.calm_files import write_raw
from zigong.calm.prepared import Prepared, prepared
from zigong.calm.prompts import Bands, Numbers
from zigong.calm.task_files import TASKS, load_task


def ready(name: str, folder: Path, *, numbers: Numbers = "written", example: bool = True) -> Prepared:
    """A task of 60 invented rows, all of which are divided."""
    write_raw(name, folder, 60)
    whole = load_task(name).model_copy(update={"subsample": None})
    return prepared(whole, folder, numbers=numbers, example=example)


@pytest.mark.parametrize("name", TASKS)
def test_a_prompt_is_instruction_one_example_the_record_after_text_and_the_cue(name: str, tmp_path: Path) -> None:
    task = ready(name, tmp_path)
    record = task.test[0]
    head, example, rest = task.form.prompt(record.values).partition("\nExample:\n")
    shown, text, last = rest.partition("\nText: ")
    assert (head, example, text) == (task.task.instruction, "\nExample:\n", "\nText: ")
    assert shown.endswith(f"\nAnswer: {task.task.example.answer}")
    assert last == "".join(f"{field}\n" for field in task.form.fields(record.values)) + "Answer:"
    shown_values = [c.codes.get(value, value) for c, value in zip(task.task.features, record.values, strict=True)]
    assert [line.partition(": ")[2] for line in last.splitlines()[:-1]] == shown_values


def test_without_the_example_the_rest_of_the_prompt_stays(tmp_path: Path) -> None:
    with_it, without = (ready("german", tmp_path, example=shown) for shown in (True, False))
    values = with_it.test[0].values
    longer, shorter = with_it.form.prompt(values), without.form.prompt(values)
    start, _, rest = longer.partition("\nExample:")
    assert shorter == start + "\nText:" + rest.partition("\nText:")[2]


def test_every_code_of_german_has_words_of_its_own() -> None:
    columns = [column for column in load_task("german").columns if column.kind == "code"]
    assert len(columns) == 13
    assert all(len(set(column.codes.values())) == len(column.codes) for column in columns)


def test_numbers_written_out_are_those_of_the_file_and_bands_are_fitted_on_training_rows_only(tmp_path: Path) -> None:
    written, banded = (ready("australia", tmp_path, numbers=numbers) for numbers in ("written", "bands"))
    place = [column.column for column in written.task.features].index("A14")
    values = written.test[0].values
    assert written.form.fields(values)[place] == f"A14: {values[place]}"
    assert banded.form.bands is not None
    assert banded.form.bands["A14"] == Bands.fitted([float(record.values[place]) for record in banded.train])


@pytest.mark.parametrize("seed", range(5))
def test_bands_hold_about_equal_numbers_of_rows_and_every_number_has_one(seed: int) -> None:
    generator = np.random.default_rng(seed)
    numbers = np.where(generator.random(800) < 0.4, 0.0, generator.lognormal(3, 1, 800)).tolist()
    bands = Bands.fitted(numbers)
    words = [bands.word(number) for number in numbers]
    assert bands.exact == (0.0,)
    assert words.count("0") == numbers.count(0.0)
    others = [words.count(word) for word in set(words) - {"0"}]
    assert len(others) == 5  # of eight bands for all rows, three are the zeros'
    assert max(others) - min(others) <= 2
    assert {bands.word(number) for number in (-9.0, 1e9)} <= set(words)


def test_few_numbers_stay_as_they_are_and_an_unseen_one_becomes_the_nearest() -> None:
    bands = Bands.fitted([1.0, 2.0, 4.0, 2.0])
    assert [bands.word(number) for number in (1.0, 2.0, 4.0, 3.5, 90.0)] == ["1", "2", "4", "4", "4"]
