"""Answers held-out samples with final model, champion and baselines: -> evaluation_answers, evaluation_metrics."""

from zigong.dataset.members import final_split
from zigong.evaluation.asked_card import asked_cards
from zigong.evaluation.baselines import baselines_of
from zigong.evaluation.cards import card_answers
from zigong.evaluation.figures import evaluation_figures
from zigong.evaluation.free_text import free_text_figures
from zigong.evaluation.further import evaluated_horizons
from zigong.evaluation.held_out import Published, exported, metric_rows, shown_names
from zigong.evaluation.held_out_answers import answer_rows, baseline_answers
from zigong.evaluation.prompt_sources import SamplePrompts
from zigong.evaluation.unadapted import ZERO_SHOT, base_answers, change_from_base
from zigong.release.champion_answers import champion_answers
from zigong.release.points import points_figures
from zigong.release.serving import published_features, published_sequences, run_prompts, serving_base
from zigong.runs.job import Job
from zigong.runs.launch import main

SPLITS = ("select", "test", "oot")


def evaluate_model(job: Job) -> None:
    """Final model, other cards and champion answer on Ray, the baselines are fitted on the same training samples."""
    recipe, source, base = job.recipe, job.sample_source(), serving_base(job)
    members, spec = source.members(SPLITS), run_prompts(job)
    prompts = SamplePrompts(
        source=source, template=recipe.instructions.template, horizon=recipe.labels.horizons[0].name, splits=SPLITS
    )
    final, others = asked_cards(job, base, spec, published_sequences(job), published_features(job))
    generated, stage = recipe.evaluation.generated, job.stage("evaluation_answers")
    own = final.answers(prompts, members, recipe=recipe, stage=stage, generated=generated)
    of_others = {
        head: card.answers(prompts, members, recipe=recipe, stage=job.stage(f"evaluation_answers_of_{head}"))
        for head, card in others.items()
    }
    baselines, choices = baselines_of(job, members), final.asked.choices
    found = card_answers(job, own, of_others, baselines, members, choices)
    card, scores = found.card.card, found.scores
    adapted = others["joint"] if found.card.head == "joint" else final
    base_only = base_answers(job, adapted, prompts, members)
    of_baselines = dict(baselines.p_bad)
    if recipe.evaluation.zero_shot:
        of_baselines[ZERO_SHOT] = base_only["p_bad"].to_numpy()
    answers = {
        **found.rows,
        **champion_answers(job, final.asked, members, splits=SPLITS, challenger_id=card),
        **{name: baseline_answers(name, members, p_bad, choices) for name, p_bad in of_baselines.items()},
    }
    rows, cells = answer_rows(answers, source.dataset_id)
    job.publish("evaluation_answers", job.frame(rows), cells=cells)
    published = Published.of(members, {**scores, **of_baselines}, found.missed)
    figures = evaluation_figures(members, published, baselines, final=card, splits=SPLITS, recipe=recipe)
    figures += points_figures(members, scores[card], model_id=card, splits=SPLITS, card=recipe.card)
    figures.append(change_from_base(card, found.rows[adapted.model_id], base_only))
    figures += evaluated_horizons(job, members, found.rows[card], published.scores[card], splits=SPLITS)
    rows, cells = metric_rows(figures, source.dataset_id)
    job.publish("evaluation_metrics", job.frame(rows), cells=cells)
    names = shown_names(card, found.heads)
    job.run.add_metrics(exported(figures, members, names=names, held_out=final_split(recipe)))
    missed = int(found.missed[card].sum())
    job.run.add_metrics({"evaluation.misses": missed, **free_text_figures(own, choices)})


if __name__ == "__main__":
    main("evaluate_model", evaluate_model)
