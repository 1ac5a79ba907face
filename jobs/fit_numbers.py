"""Fits the bins of the numbers in the text on the train split: user_sequences -> a file of bounds."""

from zigong.dataset.members import split_column
from zigong.files.atomic import promoted_folder
from zigong.files.digests import files_digest
from zigong.instructions.number_fit import fit_numbers as bins_of
from zigong.instructions.numbers import words_as_text
from zigong.runs.handover import FittedNumbers
from zigong.runs.job import Job
from zigong.runs.launch import main


def fit_numbers(job: Job) -> None:
    """Only what the prompts of train samples show: no held-out person, and nothing known after the last train date."""
    settings, folder = job.recipe.instructions, job.artefact_folder(FittedNumbers)
    if settings.quantiles is None:
        return
    dates = job.observation_dates()
    train = job.read("user_sequences").where(dates.predicate).where(split_column(job.recipe) == "train")
    numbers = bins_of(train, settings, settings.quantiles)
    (name,) = FittedNumbers.FILES
    with promoted_folder(folder) as partial:
        (partial / name).write_text(words_as_text(numbers), encoding="utf-8")
    job.leave(FittedNumbers(folder=folder, numbers_digest=files_digest({name: folder / name})))
    job.run.add_metrics({"numbers.fields": len(numbers.fields)})


if __name__ == "__main__":
    main("fit_numbers", fit_numbers)
