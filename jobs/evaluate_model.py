"""Answers held-out samples with final model, champion and baselines: -> evaluation_answers, evaluation_metrics."""

import numpy as np

from zigong.dataset.members import final_split
from zigong.evaluation.asked_model import AskedModel, ModelFolders
from zigong.evaluation.baselines import baselines_of
from zigong.evaluation.cards import card_answers
from zigong.evaluation.figures import evaluation_figures
from zigong.evaluation.free_text import free_text_figures
from zigong.evaluation.further import evaluated_horizons
from zigong.evaluation.held_out import Published, exported, metric_rows, shown_names
from zigong.evaluation.held_out_answers import answer_rows, baseline_answers, model_answers
from zigong.evaluation.prompt_sources import SamplePrompts
from zigong.evaluation.unadapted import change_from_base
from zigong.release.champion_answers import champion_answers
from zigong.release.points import points_figures
from zigong.release.serving import run_prompts, serving_base
from zigong.runs.handover import FinalModel
from zigong.runs.job import Job
from zigong.runs.launch import main

SPLITS = ("select", "test", "oot")


def evaluate_model(job: Job) -> None:
    """The final model and the champion answer on Ray Data, the baselines are fitted on the same training samples."""
    recipe, source, final = job.recipe, job.sample_source(), job.take(FinalModel)
    folders, dataset_id = ModelFolders(base=serving_base(job), adapter=final.folder), source.dataset_id
    members = source.members(SPLITS)
    asked = AskedModel.of(run_prompts(job), folders)
    prompts = SamplePrompts(
        source=source,
        template=recipe.instructions.template,
        horizon=recipe.labels.horizons[0].name,
        splits=SPLITS,
    )
    stage = job.stage("evaluation_answers")
    own = model_answers(
        final.model_id,
        asked,
        folders,
        prompts,
        members,
        recipe=recipe,
        stage=stage,
        generated=recipe.evaluation.generated,
        further=recipe.labels.further,
    )
    baselines = baselines_of(job, members)
    card = card_answers(job, final, own, baselines, members, asked.choices)
    names = shown_names(card.model_id, final.model_id)
    answers = {
        card.model_id: card.rows,
        **card.parts,
        **champion_answers(job, asked, members, splits=SPLITS, challenger_id=card.model_id),
        **{name: baseline_answers(name, members, p_bad, asked.choices) for name, p_bad in baselines.p_bad.items()},
    }
    rows, cells = answer_rows(answers, dataset_id)
    job.publish("evaluation_answers", job.frame(rows), cells=cells)
    missed = np.asarray(own["miss"])
    models = {name: rows["p_bad"].to_numpy() for name, rows in {card.model_id: card.rows, **card.parts}.items()}
    published = Published.of(members, {**models, **baselines.p_bad}, dict.fromkeys(models, missed))
    figures = evaluation_figures(members, published, baselines, final=card.model_id, splits=SPLITS, recipe=recipe)
    figures += points_figures(members, models[card.model_id], model_id=card.model_id, splits=SPLITS, card=recipe.card)
    figures.append(change_from_base(job, card.model_id, asked, folders, prompts, own))
    figures += evaluated_horizons(job, members, card.rows, published.scores[card.model_id], splits=SPLITS)
    rows, cells = metric_rows(figures, dataset_id)
    job.publish("evaluation_metrics", job.frame(rows), cells=cells)
    job.run.add_metrics(exported(figures, members, names=names, held_out=final_split(recipe)))
    job.run.add_metrics({"evaluation.misses": int(missed.sum()), **free_text_figures(own, asked.choices)})


if __name__ == "__main__":
    main("evaluate_model", evaluate_model)
