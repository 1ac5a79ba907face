"""Mixes the highest-influence samples with random ones: influence_scores, dataset_members -> training_mix."""

from zigong.job import Job
from zigong.launch import main
from zigong.selection.mix import mix_identity, training_mix


def mix_samples(job: Job) -> None:
    """70% random and 30% highest influence by default, ranked within each task and label."""
    dataset_id, scorer_id = job.run.fact("dataset_id"), job.run.fact("scorer_id")
    ours, scored = f"dataset_id = '{dataset_id}'", f"scorer_id = '{scorer_id}'"
    members = job.read("dataset_members").where(f"{ours} AND split = 'train'").select("sample_id", "task", "label")
    scores = job.read("influence_scores").where(f"{ours} AND {scored}").select("sample_id", "score")
    mix_id = mix_identity(dataset_id, scorer_id, job.recipe.mix, job.recipe.seed)
    pool = members.join(scores, "sample_id", "left")
    mix = training_mix(pool, job.recipe.mix, seed=job.recipe.seed, mix_id=mix_id)
    job.publish("training_mix", mix, cells=f"mix_id = '{mix_id}'")
    job.run.note(mix_id=mix_id)


if __name__ == "__main__":
    main("mix_samples", mix_samples)
