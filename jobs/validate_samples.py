"""Judges a dataset whole, across its tables, before anything trains on it; a refused dataset stops here."""

from zigong.errors import DataError
from zigong.instructions.dataset import window_closes_before
from zigong.job import Job
from zigong.launch import main
from zigong.quality.dataset import dataset_violations, judge


def validate_samples(job: Job) -> None:
    """Splits, answers, maturity and leakage of the run's dataset."""
    dataset_id = job.run.fact("dataset_id")
    violations = dataset_violations(
        job.read("dataset_members").where(f"dataset_id = '{dataset_id}'"),
        job.read("instruction_samples"),
        job.recipe,
        window_closes_before(job.recipe),
    )
    audit = judge(violations, job.run.folder)
    job.run.note(dataset_verdict="passed" if audit.passed else "blocked")
    if not audit.passed:
        raise DataError(
            f"dataset {dataset_id} is refused: {'; '.join(audit.failures)}",
            action="read the Data Docs of this run, mend the recipe or the source, and build the dataset again",
        )


if __name__ == "__main__":
    main("validate_samples", validate_samples)
