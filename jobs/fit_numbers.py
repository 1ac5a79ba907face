"""Fits the bins of the numbers in the text on the train split: user_sequences -> a file of bounds."""

from zigong.dataset.train_numbers import train_numbers
from zigong.files.atomic import promoted_folder
from zigong.files.digests import files_digest
from zigong.instructions.numbers import words_as_text
from zigong.runs.handover import FittedNumbers
from zigong.runs.job import Job
from zigong.runs.launch import main


def fit_numbers(job: Job) -> None:
    """The step of recipes with ``instructions.quantiles``; others round numbers."""
    recipe, folder = job.recipe, job.artefact_folder(FittedNumbers)
    if recipe.instructions.quantiles is None:
        return
    sequences = job.read("user_sequences").where(job.observation_dates().predicate)
    numbers = train_numbers(sequences, recipe, recipe.instructions.quantiles)
    (name,) = FittedNumbers.FILES
    with promoted_folder(folder) as partial:
        (partial / name).write_text(words_as_text(numbers), encoding="utf-8")
    job.leave(FittedNumbers(folder=folder, numbers_digest=files_digest({name: folder / name})))
    job.run.add_metrics({"numbers.fields": len(numbers.fields)})


if __name__ == "__main__":
    main("fit_numbers", fit_numbers)
