"""Answers every held-out sample with the final model and the baselines: -> evaluation_answers, evaluation_metrics."""

from dataclasses import asdict

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from zigong.console import progress
from zigong.dataset.members import final_split
from zigong.dataset.samples import cells_of, of_task, user_cells_of
from zigong.evaluation.baselines import fit_baselines
from zigong.evaluation.features import baseline_features
from zigong.evaluation.held_out import FINAL, answers_of, flat_figures, held_out_figures
from zigong.evaluation.worker import AnswerWorker
from zigong.fanout.shards import map_shards
from zigong.fanout.staged import staged_rows
from zigong.instructions.tasks import main_task
from zigong.instructions.templates import load_template
from zigong.recipe.source import source_mapping
from zigong.release.serving import serving_base
from zigong.runs.handover import FinalModel
from zigong.runs.job import Job
from zigong.runs.launch import main

SPLITS = ("select", "test", "oot")


def evaluate_model(job: Job) -> None:
    """The final model answers on Ray Data, the baselines are fitted on the same training samples."""
    recipe, source = job.recipe, job.sample_source()
    choices = load_template(recipe.instructions.template, recipe.instructions.language).choices
    members = source.members(SPLITS)
    own = _own_answers(job, members, choices)
    baselines = {name: answers_of(name, members, p, choices) for name, p in _baseline_scores(job, members).items()}
    answers = pa.concat_tables([own.select(next(iter(baselines.values())).column_names), *baselines.values()])
    model_id = job.take(FinalModel).model_id
    models = ", ".join(f"'{name}'" for name in (model_id, *baselines))
    cells = f"dataset_id = '{source.dataset_id}' AND model_id IN ({models})"
    dataset = pa.repeat(source.dataset_id, len(answers))
    job.publish("evaluation_answers", job.frame(answers.append_column("dataset_id", dataset)), cells=cells)
    scores = {FINAL: own["p_bad"].to_numpy()} | {name: table["p_bad"].to_numpy() for name, table in baselines.items()}
    figures = held_out_figures(
        members, scores, splits=SPLITS, unit=recipe.split.unit, settings=recipe.evaluation, seed=recipe.seed
    )
    frame = pd.DataFrame([asdict(figure) for figure in figures]).assign(dataset_id=source.dataset_id)
    job.publish(
        "evaluation_metrics", job.frame(pa.Table.from_pandas(frame)), cells=f"dataset_id = '{source.dataset_id}'"
    )
    held_out = final_split(recipe)
    for split in {held_out, "select", "test"}:
        job.run.add_metrics(flat_figures(figures, split=split, name=split))
    # Sources with one T have no out-of-time split; their held-out users stand under the same name.
    job.run.add_metrics(flat_figures(figures, split=held_out, name="oot"))
    final = members.filter(pc.equal(members["split"], held_out))
    job.run.add_metrics({"oot.samples": len(final), "oot.bad": int(pc.sum(final["label"]).as_py())})
    job.run.add_metrics({"evaluation.misses": int(pc.sum(own["miss"]).as_py())})


def _own_answers(job: Job, members: pa.Table, choices: tuple[str, str]) -> pa.Table:
    recipe, final, source = job.recipe, job.take(FinalModel), job.sample_source()
    shards = user_cells_of(members) if recipe.evaluation.engine == "trees" else cells_of(members)
    stage = job.stage("evaluation_answers")
    with progress("answers") as advance:
        manifests = map_shards(
            shards,
            AnswerWorker,
            {
                "source": source,
                "splits": SPLITS,
                "template": recipe.instructions.template,
                "base_folder": serving_base(job),
                "adapter_folder": final.folder,
                "choices": choices,
                "engine": recipe.evaluation.engine,
                "batch_tokens": recipe.evaluation.batch_tokens,
                "torch_threads": recipe.engine.torch_threads,
            },
            stage_folder=stage,
            fingerprint=f"{final.model_id}-{source.members_version}-{source.samples_version}",
            engine=recipe.engine,
            progress=advance,
        )
    rows = staged_rows(stage, manifests, members["sample_id"])
    named = rows.append_column("model_id", pa.repeat(final.model_id, len(rows)))
    return named.append_column("split", members["split"])


def _baseline_scores(job: Job, members: pa.Table) -> dict[str, np.ndarray]:
    recipe = job.recipe
    train = of_task(job.sample_source().members(["train"]), main_task(recipe))
    everyone = pa.concat_tables([train, members])
    sequences = _sequences_of(job, everyone)
    mapping = source_mapping(recipe)
    features = baseline_features(sequences, mapping.outcome_events, recipe.business_timezone)
    fitted = fit_baselines(features.iloc[: len(train)], train["label"].to_numpy(), recipe.seed)
    held_out = features.iloc[len(train) :]
    return {name: predict(held_out) for name, predict in fitted.items()}


def _sequences_of(job: Job, members: pa.Table) -> pa.Table:
    """The sequence of each member, in the order of the members."""
    days = members["observation_date"].unique()
    wanted = ["user_id", "observation_at", "observation_date", "profile", "events"]
    found = job.arrow("user_sequences", wanted, where=ds.field("observation_date").isin(days))
    keys = pd.MultiIndex.from_arrays([found["user_id"].to_pandas(), found["observation_date"].to_pandas()])
    asked = pd.MultiIndex.from_arrays([members["user_id"].to_pandas(), members["observation_date"].to_pandas()])
    return found.take(pa.array(keys.get_indexer(asked)))


if __name__ == "__main__":
    main("evaluate_model", evaluate_model)
