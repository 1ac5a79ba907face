"""The steps, their order and their schedules. Standard library only, like ``commands``: DAGs import both."""

from __future__ import annotations

from dataclasses import dataclass

SPARK, RAY, LOCAL = "spark", "ray", "local"


@dataclass(frozen=True, kw_only=True)
class Step:
    """One job of the pipeline.

    Attributes:
        reads: tables.
        writes: tables.
        takes: values (``zigong.runs.handover``) that earlier steps of the run left, or an earlier attempt of this one.
        leaves: values for later steps and for the report.
        only_with: fields of the recipe, such as ``base.tiny``; the step is skipped in recipes that set none of them.
    """

    name: str
    engine: str
    reads: tuple[str, ...] = ()
    writes: tuple[str, ...] = ()
    takes: tuple[str, ...] = ()
    leaves: tuple[str, ...] = ()
    only_with: tuple[str, ...] = ()


STEPS: tuple[Step, ...] = (
    Step(
        name="ingest_events",
        engine=SPARK,
        writes=("behavior_events", "user_profiles"),
        leaves=("UnreadColumns", "UnreadFiles", "MissingProfiles"),
    ),
    Step(
        name="build_labels",
        engine=SPARK,
        reads=("behavior_events",),
        writes=("observation_points", "performance_labels"),
    ),
    Step(
        name="build_sequences",
        engine=SPARK,
        reads=("behavior_events", "user_profiles", "observation_points"),
        writes=("user_sequences",),
    ),
    Step(
        name="build_features",
        engine=SPARK,
        reads=("user_sequences",),
        writes=("behavior_features",),
    ),
    Step(
        name="fit_numbers",
        engine=SPARK,
        reads=("user_sequences",),
        leaves=("FittedNumbers",),
        only_with=("instructions.quantiles",),
    ),
    Step(
        name="build_base",
        engine=LOCAL,
        reads=("behavior_events", "user_profiles"),
        takes=("FittedNumbers",),
        leaves=("TrainedBase",),
        only_with=("base.tiny", "base.gguf", "base.continued"),
    ),
    Step(
        name="build_instructions",
        engine=SPARK,
        reads=("user_sequences",),
        writes=("instruction_samples",),
        takes=("FittedNumbers", "TrainedBase"),
        leaves=("RenderedPrompts",),
    ),
    Step(
        name="build_dataset",
        engine=SPARK,
        reads=("instruction_samples", "performance_labels"),
        writes=("dataset_members",),
        takes=("TrainedBase",),
        leaves=("Dataset",),
    ),
    Step(
        name="validate_samples",
        engine=SPARK,
        reads=("instruction_samples", "dataset_members", "user_profiles", "behavior_events"),
        writes=("verdicts",),
        takes=("Dataset",),
        leaves=("DatasetVerdict",),
    ),
    Step(
        name="train_agent",
        engine=RAY,
        reads=("instruction_samples", "dataset_members"),
        takes=("TrainedBase", "Dataset"),
        leaves=("Agent",),
    ),
    Step(
        name="score_influence",
        engine=RAY,
        reads=("instruction_samples", "dataset_members"),
        writes=("influence_scores",),
        takes=("TrainedBase", "Dataset", "Agent", "FormerScores"),
        leaves=("FormerScores", "InfluenceScores"),
    ),
    Step(
        name="mix_samples",
        engine=SPARK,
        reads=("influence_scores", "dataset_members"),
        writes=("training_mix",),
        takes=("Dataset", "InfluenceScores"),
        leaves=("TrainingMix",),
    ),
    Step(
        name="finetune_zigong",
        engine=RAY,
        reads=("training_mix", "instruction_samples", "dataset_members", "behavior_features"),
        takes=("TrainedBase", "Dataset", "TrainingMix"),
        leaves=("FinalModel", "JointModel", "BoostedCard"),
    ),
    Step(
        name="evaluate_model",
        engine=RAY,
        reads=(
            "instruction_samples",
            "dataset_members",
            "user_sequences",
            "behavior_features",
            "performance_labels",
        ),
        writes=("evaluation_answers", "evaluation_metrics"),
        takes=("FittedNumbers", "TrainedBase", "Dataset", "FinalModel", "JointModel", "BoostedCard"),
        leaves=("FusedCard", "EvaluatedCard"),
    ),
    Step(
        name="release_model",
        engine=LOCAL,
        reads=("evaluation_answers", "evaluation_metrics", "dataset_members", "performance_labels"),
        writes=("releases",),
        takes=(
            "FittedNumbers",
            "TrainedBase",
            "Dataset",
            "DatasetVerdict",
            "FinalModel",
            "JointModel",
            "BoostedCard",
            "FusedCard",
            "EvaluatedCard",
        ),
        leaves=("GateDecision",),
    ),
    Step(
        name="refit_model",
        engine=RAY,
        reads=("training_mix", "instruction_samples", "dataset_members", "behavior_features", "releases"),
        writes=("releases",),
        takes=(
            "TrainedBase",
            "Dataset",
            "FinalModel",
            "JointModel",
            "BoostedCard",
            "FusedCard",
            "EvaluatedCard",
            "GateDecision",
        ),
        leaves=("RefittedModel",),
        only_with=("refit",),
    ),
    Step(
        name="score_users",
        engine=RAY,
        reads=("instruction_samples", "user_sequences", "behavior_features", "evaluation_answers"),
        writes=("behavior_card_scores",),
        takes=("FittedNumbers", "TrainedBase", "GateDecision"),
        only_with=("observations.score",),
    ),
)

# The steps of each schedule: new events every night, a model every period, scores every month.
SCHEDULES: dict[str, tuple[str, ...]] = {
    "daily": ("ingest_events", "build_labels", "build_sequences"),
    "retrain": tuple(step.name for step in STEPS if step.name not in {"ingest_events", "score_users"}),
    "score": ("build_labels", "build_sequences", "build_features", "build_instructions", "score_users"),
}


def step_named(name: str) -> Step:
    """The step of this name.

    Raises:
        KeyError: no step has this name; the message lists all names.
    """
    for step in STEPS:
        if step.name == name:
            return step
    raise KeyError(f"no step {name!r}; steps: {', '.join(step.name for step in STEPS)}")
