"""Trains the released model again on the samples of all splits: -> releases, registry."""

from zigong.dataset.members import SPLITS
from zigong.errors import ConfigError
from zigong.lakehouse.audit_chain import Fact
from zigong.lakehouse.audit_log import append_facts
from zigong.release.backtest import backtest_of
from zigong.release.refit import Refit, judged_champion, refitted, release_rows
from zigong.release.registry import release
from zigong.release.serving import registry_of, required_champion, serving_base
from zigong.runs.card_values import EvaluatedCard
from zigong.runs.handover import GateDecision, RefittedModel
from zigong.runs.job import Job
from zigong.runs.launch import main


def refit_model(job: Job) -> None:
    """Only what the gate released is refitted; the refit becomes the champion unless its backtest is worse."""
    recipe = job.recipe
    if recipe.refit is None:
        raise ConfigError("the recipe has no section refit", action="add refit: {} to the recipe")
    if job.take(GateDecision).decision != "released":
        return
    card = job.take(EvaluatedCard)
    judged, base = judged_champion(required_champion(recipe), card), serving_base(job)
    folder, sentence = job.artefact_folder(RefittedModel), None
    if recipe.refit.backtest:
        backtest = backtest_of(job, judged, base, head=card.head)
        sentence = backtest.sentence
        job.run.add_metrics(backtest.figures())
        if backtest.is_worse:
            job.warn(f"the refit is not released, {judged.model.model_id} stays the champion. {sentence}")
            return
    refit = refitted(job, judged, base, folder, head=card.head, splits=SPLITS, name="refit")
    _release(job, refit if sentence is None else refit.with_backtest(sentence))


def _release(job: Job, refit: Refit) -> None:
    """Registers the refit as champion, with its rows of releases and of the audit log."""
    released = release(registry_of(job.recipe), refit.candidate)
    rows = release_rows(job, refit, released.version)
    version = job.publish("releases", job.frame(rows), cells=f"run_id = '{job.run.run_id}'")
    entry = Fact(
        action="released",
        run_id=job.run.run_id,
        step=job.step,
        table_name="releases",
        cells=f"model_id = '{refit.left.model_id}'",
        version=version,
    )
    append_facts(job.paths, [entry])
    job.leave(refit.left)
    job.run.add_metrics(refit.candidate.metrics)


if __name__ == "__main__":
    main("refit_model", refit_model)
