"""The samples of a training: one worker chooses them and writes them into files, which every worker maps."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from zigong.console import Advance
from zigong.dataset.samples import SampleSource, of_task
from zigong.evaluation.ensemble import taught_by
from zigong.files.atomic import promoted_folder
from zigong.instructions.tasks import main_task
from zigong.recipe import Recipe
from zigong.tokens.columns import mapped_table
from zigong.tokens.samples import Samples
from zigong.training.teacher import Teacher

Choose = Callable[[], tuple[pa.Table, dict[str, Any]]]

_SAMPLES, _ANSWERS, _P_BAD = "samples.arrow", "answers.arrow", "p_bad"


@dataclass(frozen=True, kw_only=True)
class ChosenSamples:
    """The members of a training with their prompts, and what their teacher answers.

    Attributes:
        recipe: recipe of the run.
        base: folder of the base model.
        source: the samples of the dataset.
        choose: the members to train on, without prompts, and JSON-serialisable facts about them.
        teacher: answers them; ``finetune.distil.ensemble`` adds those of an ensemble. None: only the labels count.
        measured: held-out splits on which the ensemble is measured.
        folder: where they are written; every node must be able to access it.
        advance: reports the trainings of the ensemble.
    """

    recipe: Recipe
    base: Path
    source: SampleSource
    choose: Choose
    teacher: Teacher | None
    measured: tuple[str, ...]
    folder: Path
    advance: Advance

    def write(self) -> dict[str, Any]:
        """Chooses and writes them; returns the facts, those of the ensemble among them."""
        members, facts = self.choose()
        with promoted_folder(self.folder) as partial:
            self.source.write_prompts(members, partial / _SAMPLES)
        teacher, figures = self._taught()
        if teacher is not None:
            self._write_answers(teacher)
        return facts | figures

    def members(self) -> pa.Table:
        """The members with their prompts, copied into memory by their keys, those without a label last."""
        table = mapped_table(self.folder / _SAMPLES)
        keys = pa.table({"unlabelled": pc.is_null(table["label"]), "sample_id": table["sample_id"]})
        return table.take(pc.sort_indices(keys, [("unlabelled", "ascending"), ("sample_id", "ascending")]))

    def samples(self) -> tuple[Samples, Teacher | None]:
        """The samples, whose token ids are read when a batch is computed, and their teacher."""
        samples = Samples.mapped(self.folder / _SAMPLES)
        if self.teacher is None:
            return samples, None
        answers = zip(samples.sample_id, mapped_table(self.folder / _ANSWERS)[_P_BAD].to_pylist(), strict=True)
        return samples, replace(self.teacher, p_bad={key: p_bad for key, p_bad in answers if p_bad is not None})

    def remove(self) -> None:
        """Removes the files: texts of clients, which an erasure would not find."""
        shutil.rmtree(self.folder)

    def _write_answers(self, teacher: Teacher) -> None:
        keys = mapped_table(self.folder / _SAMPLES)["sample_id"].to_pylist()
        table = pa.table({_P_BAD: pa.array([teacher.p_bad.get(key) for key in keys], pa.float64())})
        with pa.ipc.new_file(str(self.folder / _ANSWERS), table.schema) as writer:
            writer.write_table(table)

    def _taught(self) -> tuple[Teacher | None, dict[str, float]]:
        if self.recipe.finetune.distil.ensemble is None:
            return self.teacher, {}
        held_out = None
        if self.measured:
            held_out = self.source.with_prompts(of_task(self.source.members(self.measured), main_task(self.recipe)))
        return taught_by(self.base, self.recipe, self.members(), self.teacher, held_out=held_out, advance=self.advance)
