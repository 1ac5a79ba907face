"""A study's samples whose label an agent can learn."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from tests.support.finished import TINY
from tests.support.tiny_models import make_agent_settings, make_base, make_samples
from zigong.evaluation.influence_study.setting import StudySetting
from zigong.recipe import FinalTraining, Influence, Mix, load_recipe
from zigong.tokens.samples import Samples

TRAIN = tuple(date(2023, month, 1) for month in range(1, 5))


def studied_samples(size: int, *, seed: int, dates: tuple[date, ...], prefix: str) -> Samples:
    """Every label has one answer of one token; every user has three samples."""
    samples = make_samples(size, seed=seed, dates=dates, prefix=prefix)
    users = tuple(f"{prefix}{index // 3}" for index in range(size))
    answers = tuple(np.array([23 + label], dtype=np.int32) for label in samples.label)
    return replace(samples, user_id=users, completion_ids=answers)


def table_of(samples: Samples, split: str = "train") -> pa.Table:
    """The samples as members with prompts; every user is a person."""
    columns: dict[str, Any] = {name: list(getattr(samples, name)) for name in samples.__dataclass_fields__}
    lists = {name: [item.tolist() for item in columns[name]] for name in ("input_ids", "completion_ids")}
    named = {"person_id": [f"p{user}" for user in samples.user_id], "split": [split] * len(samples)}
    return pa.table({**columns, **lists, **named})


def studied_setting(home: Path) -> StudySetting:
    """150 train samples, 45 targets, and 30 held-out samples of each of two splits."""
    learning = {"learning_rate": 0.02, "warmup_steps": 2, "batch_size": 8, "context_length": 64, "epochs": 4}
    recipe = load_recipe(TINY).model_copy(
        update={
            "agent": make_agent_settings(2, batch_size=8, epochs=4),
            "finetune": FinalTraining.model_validate(learning),
            "influence": Influence(pairs="all"),
            "mix": Mix(fraction=0.4, influence_share=0.3),
        }
    )
    held_out = studied_samples(60, seed=3, dates=(date(2023, 10, 1),), prefix="h")
    return StudySetting(
        base=make_base(home / "base"),
        recipe=recipe,
        train=studied_samples(150, seed=1, dates=TRAIN, prefix="s"),
        targets=studied_samples(45, seed=2, dates=(date(2023, 9, 1),), prefix="z"),
        held_out=held_out,
        splits=("select",) * 30 + ("oot",) * 30,
        persons=tuple(held_out.user_id),
        scratch=home,
    )
