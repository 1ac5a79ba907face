"""Scores clients with the champion on Ray Data: instruction_samples or user_sequences -> behavior_card_scores."""

from zigong.errors import ConfigError
from zigong.evaluation.answering import require_known_words
from zigong.evaluation.reasons import reason_counts
from zigong.instructions.currencies import require_one_currency
from zigong.instructions.event_types import event_types
from zigong.lakehouse.erasures import affected_models
from zigong.release.book import book_of, scored_book
from zigong.release.outlook import outlook, select_scores
from zigong.release.serving import required_champion, serving_base
from zigong.runs.dates import ObservationDates
from zigong.runs.handover import GateDecision
from zigong.runs.job import Job
from zigong.runs.launch import main
from zigong.training.tokenizer import tokenizer_digest


def score_users(job: Job) -> None:
    """Every client or loan observed at ``observations.score`` gets a calibrated probability and points.

    The champion is asked its own question with its own settings, independent of the current recipe.
    """
    recipe, day = job.recipe, job.recipe.observations.score
    gate = job.find(GateDecision)
    if day is None:
        raise ConfigError("observations.score is missing", action="set the date to score in the recipe")
    serving = required_champion(recipe, gate.reasons if gate is not None else ())
    model = serving.model
    if (last := affected_models(job.paths.local()).get(model.model_id)) is not None:
        job.warn(f"champion {model.model_id} was trained on erased users and has to be replaced by {last}")
    book = book_of(job, model.asked, day, tokenizer=tokenizer_digest(serving_base(job)))
    observed = ObservationDates(population=job.population, days=(day,)).predicate
    sequences = job.read("user_sequences").where(observed)
    require_one_currency(sequences, model.asked.prompts.settings)
    present = event_types(sequences)
    require_known_words(model.model_id, model.asked, model.asked.encoder(serving.folders), present)
    scores = scored_book(serving, book, recipe=recipe, stage=job.stage("behavior_card_scores"))
    cells = f"{observed} AND model_id = '{model.model_id}'"
    job.publish("behavior_card_scores", job.frame(scores.rows), cells=cells, dropped=scores.dropped)
    job.run.write_table("reasons", reason_counts(scores.rows["reasons"]))
    figures = outlook(scores.rows["p_bad"].to_numpy(), select_scores(job, model))
    job.run.add_metrics(figures)
    if recipe.gate.max_psi is not None and figures.get("score.psi", 0.0) > recipe.gate.max_psi:
        job.warn(f"scores of {day} differ from those of select: stability index {figures['score.psi']:.3f}")


if __name__ == "__main__":
    main("score_users", score_users)
