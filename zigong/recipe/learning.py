"""The sections of a recipe about models: trainings, influence, mix, evaluation, gate, card and registry."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from zigong.recipe.distil import Distil
from zigong.recipe.sections import Baseline, Positive, Rate, Section, Share

PROXY_SEEDS = 3  # one small training says little


class Lora(Section):
    """The low-rank adapter."""

    r: Positive = Field(8, description="rank of the adapter's matrices")
    alpha: Positive = Field(16, description="numerator of the adapter's scale, alpha / r")
    dropout: float = Field(0.0, ge=0, lt=1, description="share of the adapter's inputs that training drops")
    targets: tuple[str, ...] = Field(("q_proj", "k_proj", "v_proj"), description="layers that get an adapter")
    rank_pattern: dict[str, Positive] = Field({}, description="r of single layers: name or pattern to rank")
    alpha_pattern: dict[str, Positive] = Field({}, description="alpha of single layers: name or pattern to alpha")
    rslora: bool = Field(False, description="scale alpha / sqrt(r) instead of alpha / r")


class Training(Section):
    """One supervised training: completion-only loss, AdamW 0.9/0.999."""

    engine: Literal["samples", "trees"] = Field(
        "samples", description="trees: batches of complete users of a period, whose shared history is processed once"
    )
    epochs: Positive = Field(1, description="passes over the samples")
    learning_rate: Rate = Field(3e-3, description="learning rate after warm-up")
    schedule: Literal["constant", "cosine"] = Field("cosine", description="learning rate after warm-up, over the steps")
    warmup_steps: int = Field(10, ge=0, description="first steps, in which the learning rate rises")
    batch_size: Positive = Field(64, description="samples of one forward pass")
    accumulation: Positive = Field(
        1, description="batches per step; a step has batch_size x accumulation samples however it is divided"
    )
    context_length: Positive = Field(
        512, description="longest sample; older months are folded until a prompt fits, and longer samples are refused"
    )
    weight_decay: float = Field(
        0.0, ge=0, description="decay of the adapter's weights per step, times the learning rate"
    )
    count_eos: bool = Field(False, description="whether the end token counts for the loss, here and in scoring")
    precision: Literal["fp32", "bf16"] = Field(
        "fp32",
        exclude_if=lambda value: value == "fp32",
        description="numbers of the passes; bf16: frozen weights are held in it, too, trained ones stay in fp32",
    )
    gradient_checkpointing: bool = Field(
        False,
        exclude_if=lambda value: not value,
        description="less memory, a third more time, the same model",
    )
    quantise: Literal["nf4"] | None = Field(
        None,
        exclude_if=lambda value: value is None,
        description="holds the frozen matrices of the layers in 4 bits in the training (QLoRA); answers and scores use "
        "the base as it is. Needs lora and the package bitsandbytes",
    )
    attention: Literal["sdpa", "flash"] = Field(
        "sdpa",
        exclude_if=lambda value: value == "sdpa",
        description="kernel of the attention in a training; flash needs flash-attn, precision bf16 and engine samples",
    )

    @model_validator(mode="after")
    def _flash_can_compute_it(self) -> Self:
        if self.attention == "flash" and (self.precision, self.engine) != ("bf16", "samples"):
            raise ValueError("attention: flash needs precision: bf16 and engine: samples; it has no masks of trees")
        return self


class FinalTraining(Training):
    """The final model: trained in random order on the mix; completion-only loss, AdamW 0.9/0.999."""

    lora: Lora | None = Field(
        Lora(),
        description="null: all weight matrices of the base are trained, and saved as an adapter of full rank",
    )
    distil: Distil = Distil()
    next_event_weight: float = Field(
        0.0,
        ge=0,
        description="weight of the loss of the prompt's own tokens, next to 1 for the answer; 0: they bear no loss. "
        "Above 0, logits of all tokens of a batch are in memory",
    )
    max_grad_norm: float | None = Field(
        None, gt=0, description="longer gradients are scaled to this norm in each step; null: never"
    )

    @model_validator(mode="after")
    def _quantised_weights_are_frozen(self) -> Self:
        if self.quantise is not None and self.lora is None:
            raise ValueError("quantise holds frozen weights in 4 bits, and lora: null trains all of them")
        return self


class AgentTraining(Training):
    """The agent: trained in time order, one checkpoint per period, constant rate after warm-up."""

    schedule: Literal["constant"] = Field(
        "constant", description="constant, so that no period has a larger weight than another"
    )
    lora: Lora = Lora()
    checkpoints: Positive = Field(
        3, description="number of periods into which the train dates are divided; one checkpoint per period"
    )


class Influence(Section):
    """TracSeq settings (docs/influence.md)."""

    engine: Literal["samples", "trees"] = Field(
        "samples", description="trees: forward mode over one token tree per user, each shared token computed once"
    )
    gamma: float = Field(0.9, gt=0, le=1, description="decay of an influence per period of its age")
    decay: Literal["checkpoint", "sample", "none"] = Field(
        "checkpoint", description="the age to which gamma applies: of the checkpoint or of the sample; none: no decay"
    )
    checkpoints: Literal["all", "own"] = Field(
        "all", description="own: only the last checkpoint before the sample's period, which has not seen it"
    )
    pairs: Literal["later", "all"] = Field(
        "later", description="later: a sample is scored against targets observed after its label is mature"
    )
    scope: Literal["population", "user"] = Field("population", description="user: targets of the sample's own user")
    normalise: Literal["dot", "cosine"] = Field(
        "dot", description="dot: product of gradients; cosine: product of gradients of unit length"
    )
    precondition: Literal["none", "adam"] = Field(
        "none", description="adam: gradients divided by AdamW's second moments"
    )
    precision: Literal["fp32", "bf16"] = Field(
        "fp32", description="number format of forward and backward passes; scores are summed in fp32 or fp64"
    )
    gradient_checkpointing: bool = Field(False, description="less memory, a third more time, the same scores")
    max_targets: Positive = Field(
        2000, description="largest number of target samples; complete users are kept by their hash"
    )
    batch_tokens: Positive = Field(
        4096, description="padded tokens of one pass; choose what fits a CPU's cache, or a GPU"
    )

    @model_validator(mode="after")
    def _forward_mode_fits(self) -> Self:
        supported = {"scope": "population", "normalise": "dot", "precision": "fp32"}
        other = [name for name, value in supported.items() if getattr(self, name) != value]
        if self.engine == "trees" and other:
            raise ValueError(f"engine: trees supports only {other[0]}: {supported[other[0]]}; use engine: samples")
        return self


class Mix(Section):
    """The training mix: an influence share first, then random samples from the rest."""

    fraction: Rate = Field(0.5, description="size of the mix as a share of the train samples")
    influence_share: Share = Field(0.3, description="share of the mix chosen by influence; the rest is random")
    rank: Literal["global", "class", "period", "class_period"] = Field(
        "class", description="groups of a task within which samples are ranked; quotas as in the pool"
    )
    max_per_user: Positive | None = Field(None, description="largest number of samples of one user in the mix")
    proxy_samples: int = Field(
        1000,
        ge=0,
        description="largest number of samples of the small trainings on the mix and on random samples; the random "
        "ones replace a mix that is worse on select; 0: no test of the mix",
    )

    @property
    def proxy_trainings(self) -> int:
        """Number of the small trainings that test the mix: one for each seed, on the mix and on random samples."""
        return 2 * PROXY_SEEDS if self.proxy_samples and self.influence_share else 0


class Evaluation(Section):
    """Answers, measures and baselines."""

    engine: Literal["samples", "trees"] = Field(
        "samples", description="trees: the prompts of a user share a forward pass, in evaluation and in score_users"
    )
    bootstrap: Positive = Field(2000, description="bootstrap resamples of complete split units, for every interval")
    confidence: Rate = Field(0.95, description="coverage of the intervals")
    batch_tokens: Positive = Field(8192, description="padded tokens of one pass")
    generated: int = Field(
        1000, ge=0, description="largest number of held-out samples that the model also answers in free text"
    )
    gru_epochs: int = Field(
        0,
        ge=0,
        description="largest number of passes in which a GRU on the same tokens is trained as a baseline; 0: none",
    )
    zero_shot: bool = Field(
        False,
        description="the base without its adapter answers all held-out samples, as a baseline",
        exclude_if=lambda value: not value,
    )
    segments: tuple[str, ...] = Field(
        (),
        description="profile attributes by whose values every metric is measured, too; needs a profile in the source",
    )
    fairness: dict[str, str] = Field(
        {}, description="profile attributes with the value that the other groups are compared with, such as sex: F"
    )


class Gate(Section):
    """The conditions for the release of a challenger."""

    max_auc_loss: Share = Field(0.01, description="largest tolerated loss of AUC against the champion")
    max_auc_loss_of_replacement: Share = Field(
        0.05,
        description="the same against a champion trained on erased users, until the date of its replacement",
    )
    max_auc_loss_to_baseline: Share | None = Field(
        0.02, description="largest tolerated loss of AUC against the best baseline; null: not checked"
    )
    beat: tuple[Baseline, ...] = Field(
        (), description="baselines, such as lightgbm, to which the paired AUC difference must exclude zero"
    )
    beat_last_status: bool = Field(True, description="paired AUC difference to the lookup must exclude zero")
    beat_constant: bool = Field(
        True, description="Brier score and log-loss must be below those of the bad rate of select"
    )
    min_calibration_slope: float | None = Field(
        0.7, description="least slope of label on log-odds of the calibrated probabilities; null: not checked"
    )
    max_calibration_slope: float | None = Field(1.4, description="largest such slope; null: not checked")
    max_psi: float | None = Field(
        0.25, gt=0, description="largest stability index of the scores, held-out against select; null: not checked"
    )
    max_miss: Share = Field(0.0, description="largest share of held-out prompts that the model answers with no choice")
    min_mcc: float = Field(
        0.0, description="MCC at the threshold must be above this; predicting the majority class has 0"
    )
    alarm: Literal["refuse", "warn"] = Field(
        "refuse",
        description="reaction to an attribute or model that separates the classes almost perfectly, a sign of leakage",
    )


class Refit(Section):
    """A last training after the gate: the released model again, with the same settings, on the samples of all splits.

    Calibration, threshold and the weights of a fused card stay those that the gate judged.
    """

    epochs: Positive | None = Field(None, description="passes over the samples; null: those of finetune")
    backtest: bool = Field(
        True,
        description="whether the same refit is first tried without the final split and answers that one: a refit that "
        "is worse there than the judged model is not released",
    )


class Reasons(Section):
    """Reasons of scores: the groups of events and profile fields whose removal moves a score most."""

    most: int = Field(4, ge=0, description="largest number of reasons of a client or loan; 0: none")
    share: float = Field(0.1, ge=0, le=1, description="share of the scored ones, the riskiest, that get reasons")


class Registry(Section):
    """The model registry."""

    uri: str | None = Field(None, description="MLflow address; default: sqlite under the lakehouse")
    model_name: str = Field("behavior_card", description="registered name; its alias champion is the model in use")
    experiment: str = Field("zigong", description="MLflow experiment of the runs")
