"""Checks a complete dataset, across its tables, before anything trains on it; a refused dataset ends the step."""

from schemas.contracts import table_contract
from zigong.dataset.audit import NAME, alarms, audit_dataset
from zigong.dataset.members import window_closes_before
from zigong.errors import DataError
from zigong.incremental.known import source_events
from zigong.lakehouse.verdicts import record_verdict
from zigong.quality.leakage import static_profile_share
from zigong.runs.handover import Dataset, DatasetVerdict
from zigong.runs.job import Job
from zigong.runs.launch import main


def validate_samples(job: Job) -> None:
    """Splits, answers, maturity and leakage of the run's dataset."""
    dataset_id = job.take(Dataset).dataset_id
    verdict = audit_dataset(
        job.read("dataset_members").where(f"dataset_id = '{dataset_id}'"),
        job.read("instruction_samples").where(f"population = '{job.population}'"),
        job.recipe,
        window_closes_before(job.recipe),
        static_profiles=static_profile_share(job.read("user_profiles"), source_events(job)) or 0.0,
        run_folder=job.run.folder,
        run_id=job.run.run_id,
    )
    counts = {
        "rows_in": verdict.kept,
        "published": verdict.kept if verdict.passed else 0,
        "quarantined": 0,
        "dropped": {},
        "outside": 0,
    }
    version = table_contract("dataset_members").rules_version
    record_verdict(job.paths, verdict, run_id=job.run.run_id, table=NAME, counts=counts, rules_version=version)
    job.leave(DatasetVerdict(dataset_verdict="passed" if verdict.passed else "blocked", alarms=alarms(verdict)))
    if not verdict.passed:
        raise DataError(
            f"dataset {dataset_id} is refused: {'; '.join(verdict.failures)}",
            action="read the Data Docs of this run, correct the recipe or the source, and build the dataset again",
        )


if __name__ == "__main__":
    main("validate_samples", validate_samples)
