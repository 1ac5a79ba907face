"""The values that a step passes to later steps of its run: frozen, stored in the run's manifest by class name.

``pipeline.py`` lists which step reads and which writes a value. Tables are not passed this way: a run pins their
versions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from pydantic import ConfigDict

from zigong.runs.card_values import BoostedCard, EvaluatedCard, FusedCard, JointModel
from zigong.runs.value import Artefact, Digest, Name, Value


@dataclass(frozen=True, kw_only=True)
class UnreadColumns(Value):
    """Columns of the raw files that the source mapping does not read.

    Attributes:
        unread_columns: columns by file, as text for the report; None: every column is read.
    """

    unread_columns: Name | None


@dataclass(frozen=True, kw_only=True)
class UnreadFiles(Value):
    """Files in the folders of the source mapping that were not read.

    Attributes:
        unread_files: files with the reason, as text for the report; None: every file is read.
    """

    unread_files: Name | None


@dataclass(frozen=True, kw_only=True)
class MissingProfiles(Value):
    """Users of the delivered events without a known profile, as text for the report; None: all have one."""

    users_without_profile: Name | None


@dataclass(frozen=True, kw_only=True)
class FittedNumbers(Artefact):
    """The bins of the numbers in the run's prompts.

    Attributes:
        numbers_digest: SHA-256 of the file that lists them.
    """

    SUBFOLDER = "artifacts/numbers"
    DIGEST_FIELD = "numbers_digest"
    FILES = ("numbers.json",)

    numbers_digest: Digest


@dataclass(frozen=True, kw_only=True)
class TrainedBase(Artefact):
    """The base model that this run trained, or converted from a GGUF file.

    Attributes:
        base_digest: SHA-256 over weights, model config and tokenizer file.
        tokenizer_digest: SHA-256 of the tokenizer file.
    """

    SUBFOLDER = "artifacts/base"
    DIGEST_FIELD = "base_digest"
    FILES = ("*.safetensors", "config.json", "tokenizer.json")

    base_digest: Digest
    tokenizer_digest: Digest


@dataclass(frozen=True, kw_only=True)
class RenderedPrompts(Value):
    """The prompts of the run's dates.

    Attributes:
        shared_prefix: share of repeated text per user, as text for the report.
    """

    shared_prefix: Name


@dataclass(frozen=True, kw_only=True)
class Dataset(Value):
    """The dataset whose members are the run's samples.

    Attributes:
        repeated_samples: number of samples that repeat others, as text for the report.
    """

    dataset_id: Name
    repeated_samples: Name


@dataclass(frozen=True, kw_only=True)
class DatasetVerdict(Value):
    """Whether the dataset may be trained on.

    Attributes:
        alarms: attributes that alone separate the classes, one sentence each; the gate reads them.
    """

    dataset_verdict: Literal["passed", "blocked"]
    alarms: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Agent(Artefact):
    """The agent's checkpoints.

    Attributes:
        checkpoints_digest: SHA-256 of the file that names every checkpoint with its own digest.
    """

    SUBFOLDER = "artifacts/agent"
    DIGEST_FIELD = "checkpoints_digest"
    FILES = ("checkpoints.json",)

    checkpoints_digest: Digest


@dataclass(frozen=True, kw_only=True)
class FormerScores(Value):
    """The published version that the first attempt of score_influence found, so that a second attempt uses the same.

    Attributes:
        version: of influence_scores; None where nothing was published.
    """

    version: int | None


@dataclass(frozen=True, kw_only=True)
class InfluenceScores(Value):
    """The scores of the training samples.

    Attributes:
        scorer_id: their name in influence_scores.
        warnings: reasons against using them.
    """

    scorer_id: Name
    warnings: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class TrainingMix(Value):
    """What the final model may be trained on.

    Attributes:
        mix_id: the mix that the recipe asks for.
        random_mix_id: random samples that replace a mix that is worse; None: the mix is not tested.
    """

    mix_id: Name
    random_mix_id: Name | None = None


@dataclass(frozen=True, kw_only=True)
class FinalModel(Artefact):
    """The adapter that was trained on a mix.

    Attributes:
        adapter_digest: SHA-256 over its weights and config.
        trained_on: mix_id of its samples.
        mix_against_random: the test of the mix, as text for the report; None: it was not tested.
    """

    SUBFOLDER = "artifacts/zigong"
    DIGEST_FIELD = "adapter_digest"
    FILES = ("adapter_model.safetensors", "adapter_config.json")

    model_id: Name
    adapter_digest: Digest
    trained_on: Name
    mix_against_random: Name | None = None


@dataclass(frozen=True, kw_only=True)
class GateCheck:
    """A condition of the gate, whether it holds, and the observation in words."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid", strict=True)

    name: Name
    passed: bool
    sentence: Name


@dataclass(frozen=True, kw_only=True)
class GateDecision(Value):
    """What the gate decided about the final model, and why.

    Attributes:
        checks: every condition.
        warnings: findings to review that do not affect the decision.
    """

    decision: Literal["released", "refused"]
    reasons: tuple[str, ...]
    warnings: tuple[str, ...] = ()
    checks: tuple[GateCheck, ...] = ()


@dataclass(frozen=True, kw_only=True)
class RefittedModel(Artefact):
    """The released model, trained again on the samples of all splits.

    Attributes:
        adapter_digest: SHA-256 over its weights and config.
        refit_of: model_id of the model that the gate judged.
        samples: number of distinct samples, as text for the report.
        trained_until: newest observation date among them, as text for the report.
        backtest: how a refit at an earlier date would have ended; None: it was not tried.
    """

    SUBFOLDER = "artifacts/refit"
    DIGEST_FIELD = "adapter_digest"
    FILES = ("adapter_model.safetensors", "adapter_config.json")

    model_id: Name
    adapter_digest: Digest
    refit_of: Name
    samples: Name
    trained_until: Name
    backtest: Name | None = None


VALUES: tuple[type[Value], ...] = (
    UnreadColumns,
    UnreadFiles,
    MissingProfiles,
    FittedNumbers,
    TrainedBase,
    RenderedPrompts,
    Dataset,
    DatasetVerdict,
    Agent,
    FormerScores,
    InfluenceScores,
    TrainingMix,
    FinalModel,
    JointModel,
    BoostedCard,
    FusedCard,
    EvaluatedCard,
    GateDecision,
    RefittedModel,
)
