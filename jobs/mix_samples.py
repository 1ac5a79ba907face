"""Mixes the highest-influence samples with random ones: influence_scores, dataset_members -> training_mix."""

import pyarrow.dataset as ds

from zigong.runs.handover import Dataset, InfluenceScores, TrainingMix
from zigong.runs.job import Job
from zigong.runs.launch import main
from zigong.selection.compare import scores_by, selection_groups
from zigong.selection.mix import mixes_of


def mix_samples(job: Job) -> None:
    """70% random and 30% highest influence by default, ranked within each task and, by recipe, label and period."""
    dataset_id, scorer_id = job.take(Dataset).dataset_id, job.take(InfluenceScores).scorer_id
    ours, scored = f"dataset_id = '{dataset_id}'", f"scorer_id = '{scorer_id}'"
    members = job.read("dataset_members").where(f"{ours} AND split = 'train'")
    asked = members.select("sample_id", "user_id", "observation_date", "task", "label")
    scores = job.read("influence_scores").where(f"{ours} AND {scored}").select("sample_id", "score", "scope")
    pool = asked.join(scores, "sample_id", "left")
    rows, (mix_id, *others) = mixes_of(
        pool, job.recipe.mix, seed=job.recipe.seed, dataset_id=dataset_id, scorer_id=scorer_id
    )
    listed = ", ".join(f"'{name}'" for name in (mix_id, *others))
    job.publish("training_mix", rows, cells=f"mix_id IN ({listed})")
    job.leave(TrainingMix(mix_id=mix_id, random_mix_id=others[0] if others else None))
    _compare(job, dataset_id, scorer_id, mix_id)


def _compare(job: Job, dataset_id: str, scorer_id: str, mix_id: str) -> None:
    """Writes tables that compare the published selection with the pool and a random half."""
    ours = ds.field("dataset_id") == dataset_id
    columns = ["sample_id", "user_id", "observation_date", "task", "label"]
    members = job.arrow("dataset_members", columns, where=ours & (ds.field("split") == "train")).to_pandas()
    scored = ours & (ds.field("scorer_id") == scorer_id)
    scores = job.arrow("influence_scores", ["sample_id", "score", "loss", "tokens"], where=scored).to_pandas()
    mix = job.arrow("training_mix", ["sample_id", "share"], where=ds.field("mix_id") == mix_id).to_pandas()
    pool = members.merge(scores, on="sample_id", how="left").sort_values("sample_id", ignore_index=True)
    shares = dict(zip(mix["sample_id"], mix["share"], strict=True))
    groups = selection_groups(pool, shares, seed=job.recipe.seed)
    job.run.write_table("selection_groups", groups.to_dict("records"))
    job.run.write_table("selection_scores", scores_by(pool, shares).to_dict("records"))


if __name__ == "__main__":
    main("mix_samples", mix_samples)
