"""Scores the book with the champion on Ray Data: instruction_samples at the score date -> behavior_card_scores."""

import pyarrow as pa
import pyarrow.dataset as ds

from zigong.console import progress
from zigong.dataset.samples import PromptSource, cells_of
from zigong.errors import ConfigError, DataError
from zigong.evaluation.calibration import calibrated
from zigong.evaluation.worker import AnswerWorker
from zigong.fanout.shards import map_shards
from zigong.fanout.staged import staged_rows
from zigong.instructions.templates import load_template
from zigong.release.registry import champion
from zigong.release.scaling import card_scores
from zigong.release.serving import registry_of
from zigong.runs.handover import GateDecision
from zigong.runs.job import Job
from zigong.runs.launch import main

KEYS = ["sample_id", "user_id", "observation_at", "observation_date", "user_bucket"]


def score_users(job: Job) -> None:
    """Every client observed at ``observations.score`` gets a calibrated probability and points."""
    recipe, day = job.recipe, job.recipe.observations.score
    serving, gate = champion(registry_of(recipe)), job.find(GateDecision)
    if day is None:
        raise ConfigError("observations.score is missing", action="name the date to score in the recipe")
    if serving is None:
        reasons = " ".join(gate.reasons if gate is not None else ())
        raise DataError(
            f"there is no champion: no model was ever released. {reasons}".rstrip(),
            action="train one that passes the gate (recipe sections finetune, mix and gate), then score",
        )
    asked = (ds.field("observation_date") == day) & (ds.field("template") == recipe.instructions.template)
    book = job.arrow("instruction_samples", KEYS, where=asked).sort_by("sample_id")
    if not len(book):
        raise DataError(f"nobody is observed at {day}", action="build labels, sequences and instructions for that date")
    version = job.version("instruction_samples")
    source = PromptSource(root=job.paths.root, samples_version=version)
    shards, stage = cells_of(book), job.stage("behavior_card_scores")
    with progress("scores") as advance:
        manifests = map_shards(
            shards,
            AnswerWorker,
            {
                "source": source,
                "splits": None,
                "template": recipe.instructions.template,
                "base_folder": serving.base,
                "adapter_folder": serving.adapter,
                "choices": load_template(recipe.instructions.template, recipe.instructions.language).choices,
                "engine": recipe.evaluation.engine,
                "batch_tokens": recipe.evaluation.batch_tokens,
                "torch_threads": recipe.engine.torch_threads,
            },
            stage_folder=stage,
            fingerprint=f"{serving.model_id}-{version}",
            engine=recipe.engine,
            progress=advance,
        )
    rows = staged_rows(stage, manifests, book["sample_id"])
    p_bad = calibrated(serving.calibration, rows["p_bad"].to_numpy())
    table = book.select(["user_id", "observation_at", "observation_date"])
    for name, values in (("p_bad", p_bad), ("score", card_scores(p_bad, serving.card))):
        table = table.append_column(name, pa.array(values))
    table = table.append_column("model_id", pa.repeat(serving.model_id, len(table)))
    cells = f"observation_date = DATE'{day}' AND model_id = '{serving.model_id}'"
    job.publish("behavior_card_scores", job.frame(table), cells=cells)


if __name__ == "__main__":
    main("score_users", score_users)
