"""Answers of finished trainings of a study in files, so that an interrupted study goes on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from zigong.evaluation.influence_study.setting import Floats, StudySetting
from zigong.files.atomic import promoted_file
from zigong.files.digests import combined_digest, json_digest
from zigong.training.base import base_digest


@dataclass(frozen=True, kw_only=True)
class TrialStore:
    """Answers of finished trials, one file each.

    Attributes:
        folder: folder of the files; files of another setting have other names and are ignored.
        fingerprint: digest of everything but the trial that determines an answer.
    """

    folder: Path
    fingerprint: str

    def read(self, key: str) -> Floats | None:
        """p_bad of the held-out samples, or None if the trial of this key has not ended."""
        file = self._file(key)
        return np.asarray(pq.read_table(file)["p_bad"].to_numpy()) if file.is_file() else None

    def write(self, key: str, p_bad: Floats, facts: Mapping[str, object]) -> None:
        """Keeps the answers of a trial, with facts about it in the file's metadata."""
        self.folder.mkdir(parents=True, exist_ok=True)
        named = {name: str(value) for name, value in facts.items()}
        with promoted_file(self._file(key)) as place:
            pq.write_table(pa.table({"p_bad": p_bad}).replace_schema_metadata(named), place)

    def _file(self, key: str) -> Path:
        return self.folder / f"{self.fingerprint[:16]}-{key}.parquet"


def trial_store(setting: StudySetting, folder: Path, sections: tuple[str, ...]) -> TrialStore:
    """The store of a setting's trials.

    Args:
        setting: samples and settings.
        folder: folder of the files.
        sections: sections of the recipe that determine the answers of every trial.
    """
    recipe = {name: getattr(setting.recipe, name).model_dump(mode="json") for name in sections}
    parts = {"train": setting.train, "targets": setting.targets, "held_out": setting.held_out}
    samples = {name: combined_digest({"ids": "|".join(part.sample_id)}) for name, part in parts.items()}
    made = {"version": version("zigong"), "base": base_digest(setting.base)}
    return TrialStore(folder=folder, fingerprint=json_digest({**made, **recipe, **samples}))
