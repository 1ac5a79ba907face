"""Gives samples their answers and splits: instruction_samples, performance_labels -> dataset_members."""

from zigong.console import LOG
from zigong.dataset.classes import require_both_classes
from zigong.dataset.members import build_members
from zigong.instructions.encode import LineEncoder
from zigong.instructions.tasks import load_tasks
from zigong.recipe.population import label_settings_of
from zigong.release.serving import serving_base
from zigong.runs.handover import Dataset
from zigong.runs.job import Job
from zigong.runs.launch import main


def build_dataset(job: Job) -> None:
    """Every mature, determined sample of the recipe's dates in exactly one split, auxiliary ones only in train."""
    dates, settings = job.observation_dates(), label_settings_of(job.recipe)
    encoder = LineEncoder.of(serving_base(job))
    choices = load_tasks(job.recipe.instructions).choices
    dataset = build_members(
        job.read("instruction_samples").where(dates.predicate),
        job.read("performance_labels").where(dates.predicate).where(f"label_settings = '{settings}'"),
        job.recipe,
        {answer: encoder.completion(answer) for answer in choices},
    )
    cells = f"dataset_id = '{dataset.dataset_id}'"
    job.publish("dataset_members", dataset.members, cells=cells, dropped=dataset.dropped)
    require_both_classes(job.read("dataset_members").where(cells), job.recipe)
    repetitions = dataset.repetitions
    job.leave(Dataset(dataset_id=dataset.dataset_id, repeated_samples=repetitions.sentence(job.recipe.duplicates)))
    unclear = {f"dataset.indeterminate.{split}": rows for split, rows in dataset.indeterminate.items()}
    job.run.add_metrics({**repetitions.metrics(), **unclear})
    if job.recipe.unlabelled_dates():
        job.run.add_metrics({"dataset.unlabelled": dataset.unlabelled})
    if repetitions.crowded_texts:
        LOG.warning("near duplicates may be missing", extra={"fields": {"crowded_texts": repetitions.crowded_texts}})


if __name__ == "__main__":
    main("build_dataset", build_dataset)
