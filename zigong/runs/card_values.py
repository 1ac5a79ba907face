"""The values of a run about its card: what it may be made of, and what it is."""

from __future__ import annotations

from dataclasses import dataclass

from zigong.recipe import Head
from zigong.runs.value import Artefact, Digest, Name, Value


@dataclass(frozen=True, kw_only=True)
class JointModel(Artefact):
    """An adapter and a tower on baseline features that were trained together; absent where none was asked for.

    Attributes:
        joint_digest: SHA-256 over the files of both.
        outcome_events: event types that state a repayment status, an input of the features.
    """

    SUBFOLDER = "artifacts/joint"
    DIGEST_FIELD = "joint_digest"
    FILES = ("adapter_model.safetensors", "adapter_config.json", "tower.safetensors", "tower.json")

    model_id: Name
    joint_digest: Digest
    outcome_events: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class FusedCard(Artefact):
    """A card that adds boosted trees to the final model; absent where none was asked for.

    Attributes:
        language_model: model_id of the final model that it contains.
        trees: name of the baseline whose trees it contains.
        trees_digest: SHA-256 over the files of the trees.
        outcome_events: event types that state a repayment status, an input of the features.
        intercept: of the sum of weighted log-odds.
        model_weight: weight of the final model's log-odds.
        trees_weight: weight of the trees' log-odds.
    """

    SUBFOLDER = "artifacts/fused"
    DIGEST_FIELD = "trees_digest"
    FILES = ("trees_*.txt", "columns.json")

    model_id: Name
    language_model: Name
    trees: Name
    trees_digest: Digest
    outcome_events: tuple[str, ...]
    intercept: float
    model_weight: float
    trees_weight: float


@dataclass(frozen=True, kw_only=True)
class BoostedCard(Artefact):
    """A card whose boosted trees read the final model's answers and states; absent where none was asked for.

    Attributes:
        language_model: model_id of the final model that it contains.
        trees: name of the baseline whose features the trees read, too.
        boosted_digest: SHA-256 over the files of the trees and of the readout.
        outcome_events: event types that state a repayment status, an input of the features.
    """

    SUBFOLDER = "artifacts/boosted"
    DIGEST_FIELD = "boosted_digest"
    FILES = ("trees_*.txt", "columns.json", "readout.safetensors")

    model_id: Name
    language_model: Name
    trees: Name
    boosted_digest: Digest
    outcome_events: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class EvaluatedCard(Value):
    """The card that evaluate_model measured.

    Attributes:
        head: what answers.
        card: its model_id.
        language_model: model_id of the final model that was measured with it.
        log_loss_on_select: that of every candidate, as text for the report; None: the recipe names the head.
    """

    head: Head
    card: Name
    language_model: Name
    log_loss_on_select: Name | None = None
