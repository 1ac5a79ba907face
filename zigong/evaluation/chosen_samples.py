"""The samples of a training: one worker chooses them and writes them into a file, which every worker reads."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from zigong.console import Advance
from zigong.dataset.samples import SampleSource, of_task
from zigong.evaluation.ensemble import taught_by
from zigong.files.atomic import promoted_file
from zigong.instructions.tasks import main_task
from zigong.recipe import Recipe
from zigong.tokens.samples import Samples
from zigong.training.teacher import Teacher

Choose = Callable[[], tuple[pa.Table, dict[str, Any]]]

_TAUGHT = "p_bad_of_teacher"


@dataclass(frozen=True, kw_only=True)
class ChosenSamples:
    """The members of a training with their prompts, and what their teacher answers.

    Attributes:
        recipe: recipe of the run.
        base: folder of the base model.
        source: the samples of the dataset.
        choose: the members to train on with ``input_ids``, and JSON-serialisable facts about them.
        teacher: answers them; ``finetune.distil.ensemble`` adds those of an ensemble. None: only the labels count.
        measured: held-out splits on which the ensemble is measured.
        file: where they are written; every node must be able to access it.
        advance: reports the trainings of the ensemble.
    """

    recipe: Recipe
    base: Path
    source: SampleSource
    choose: Choose
    teacher: Teacher | None
    measured: tuple[str, ...]
    file: Path
    advance: Advance

    def write(self) -> dict[str, Any]:
        """Chooses and writes them; returns the facts, those of the ensemble among them."""
        members, facts = self.choose()
        held_out = None
        if self.measured and self.recipe.finetune.distil.ensemble is not None:
            held_out = self.source.with_prompts(of_task(self.source.members(self.measured), main_task(self.recipe)))
        teacher, figures = taught_by(
            self.base, self.recipe, members, self.teacher, held_out=held_out, advance=self.advance
        )
        answers = {} if teacher is None else teacher.p_bad
        taught = pa.array([answers.get(key) for key in members["sample_id"].to_pylist()], pa.float64())
        table = members.append_column(_TAUGHT, taught)
        with (
            promoted_file(self.file) as partial,
            pa.OSFile(str(partial), "wb") as sink,
            pa.ipc.new_file(sink, table.schema) as writer,
        ):
            writer.write_table(table)
        return facts | figures

    def members(self) -> pa.Table:
        """The members, as they were chosen."""
        return self._read().drop_columns([_TAUGHT])

    def samples(self) -> tuple[Samples, Teacher | None]:
        """The samples, and their teacher."""
        table = self._read()
        taught = zip(table["sample_id"].to_pylist(), table[_TAUGHT].to_pylist(), strict=True)
        answers = {key: value for key, value in taught if value is not None}
        return Samples.from_arrow(table), None if self.teacher is None else replace(self.teacher, p_bad=answers)

    def _read(self) -> pa.Table:
        with pa.OSFile(str(self.file)) as source:
            return pa.ipc.open_file(source).read_all()
