"""Builds instruction samples from sequences, in Arrow batches on the Spark workers."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import partial
from typing import Any
from zoneinfo import ZoneInfo

import pyarrow as pa
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from schemas.contracts import table_contract
from zigong.instructions.batches import InBatches, event_lists, in_batches
from zigong.instructions.branches import Branch, Observed, VisibleHistory, branch_of
from zigong.instructions.computed import Computed
from zigong.instructions.encode import LineEncoder
from zigong.instructions.histories import events_in
from zigong.instructions.prompt_spec import PromptSpec
from zigong.instructions.prompts import Prompts, RenderContext
from zigong.instructions.render import local_date
from zigong.instructions.tasks import further_question
from zigong.instructions.templates import Question
from zigong.recipe import Horizon

NAMED_TYPES = {  # all other columns are strings
    "phrasing": pa.int32(),
    "choices": pa.list_(pa.string()),
    "answer_ids": pa.list_(pa.int32()),
    "max_tokens": pa.int32(),
}
Row = dict[str, Any]
COPIED = (
    "population",
    "sequence_id",
    "user_id",
    "person_id",
    "loan_id",
    "observation_at",
    "observation_date",
    "user_bucket",
)


@dataclass(frozen=True, kw_only=True)
class RenderPlan(PromptSpec):
    """Everything a worker needs to turn rows into text and ids.

    Attributes:
        further: horizons that train sequences are also asked about, with the main question.
    """

    tokenizer_folder: str
    further: tuple[Horizon, ...] = ()

    @classmethod
    def of(cls, prompts: PromptSpec, tokenizer_folder: str, further: Sequence[Horizon] = ()) -> RenderPlan:
        """The plan of the settings of prompts.

        Args:
            prompts: the settings.
            tokenizer_folder: folder of the tokenizer.
            further: see the attribute.
        """
        named = {item.name: getattr(prompts, item.name) for item in fields(prompts)}
        return cls(**named, tokenizer_folder=tokenizer_folder, further=tuple(further))


def instruction_samples(sequences: DataFrame, plan: RenderPlan, *, trains: Column | None = None) -> DataFrame:
    """Renders and encodes every sequence.

    Args:
        sequences: rows of user_sequences.
        plan: questions, horizon, time zone and tokenizer.
        trains: whether a sequence is in the train split; only train sequences get auxiliary questions and those about
            further horizons. None: no sequence does.

    Returns:
        Rows of the contract instruction_samples: one per sequence, question and horizon.
    """
    contract = table_contract("instruction_samples")
    main_only = trains is None or not (plan.tasks.auxiliary or plan.further)
    auxiliary = F.lit(False) if main_only else F.coalesce(trains, F.lit(False))
    lists = event_lists(plan.event_fields)
    needed = sequences.select(
        *COPIED, "profile", "counts.folded", auxiliary.alias("trains"), asked_loan().alias("asked_loan"), *lists
    )
    return needed.mapInArrow(in_batches(_Sampler(plan, list(contract.column_names))), contract.ddl)


def asked_loan() -> Column:
    """The number of the loan that a sequence is about; null where the client is, or has no other loan."""
    return F.when(F.col("loans") > 1, F.col("loan"))


@dataclass(frozen=True)
class _Sampler:
    plan: RenderPlan
    columns: list[str]

    def __call__(self) -> InBatches:
        """Called once per task on a worker, which reads the tokenizer from disk."""
        encoder, zone = LineEncoder.of(self.plan.tokenizer_folder), ZoneInfo(self.plan.timezone)
        further = self.plan.further
        return lambda batch: (
            part.select(self.columns) for part in sample_batch(batch, self.plan, encoder, zone, further=further)
        )


def sample_batch(
    batch: pa.RecordBatch, plan: PromptSpec, encoder: LineEncoder, zone: ZoneInfo, *, further: Sequence[Horizon] = ()
) -> Iterator[pa.RecordBatch]:
    """Rows of instruction_samples: one per sequence, question and horizon, the main question first.

    The history of a sequence is folded until the prompt of the main question fits. The other questions follow the same
    history, and a prompt that is too long goes to quarantine, so they never change the main prompt.
    The service renders one user as a batch of one sequence.

    Args:
        batch: the columns COPIED, profile, folded, trains, asked_loan, and one list column per ``event_fields`` of the
            plan.
        further: horizons that the sequences marked as train are also asked about.
    """
    context = RenderContext(template=plan.template, settings=plan.settings, zone=zone, numbers=plan.numbers)
    prompts = Prompts(context.render(events_in(batch, plan.event_fields)), encoder, context)
    max_tokens = _max_tokens(plan.template, plan, encoder)
    sequences = batch.select(["sequence_id", "observation_at", "profile", "folded", "trains", "asked_loan"]).to_pylist()
    for number, row in enumerate(sequences):
        ask = partial(_branch, observed=_observed(row, plan, zone), plan=plan, zone=zone)
        main = prompts.add(number, partial(ask, plan.template), max_tokens)
        for question in plan.tasks.auxiliary_of(row["sequence_id"]) if row["trains"] else ():
            prompts.add_branch(main, ask(question, main.visible))
        for horizon in further if row["trains"] else ():
            prompts.add_branch(main, ask(further_question(plan.template, horizon), main.visible, horizon=horizon))
    for columns in prompts.columns():
        rows = batch.select(list(COPIED)).take(columns.rows)
        of_row = zip(rows["sequence_id"].to_pylist(), columns.branches, strict=True)
        named = [_named(sequence_id, branch, plan, encoder) for sequence_id, branch in of_row]
        made = {
            **{name: rows[name] for name in COPIED},
            **{name: pa.array([row[name] for row in named], NAMED_TYPES.get(name, pa.string())) for name in named[0]},
            "prompt": columns.texts,
            "input_ids": columns.input_ids,
            "history_tokens": columns.history_tokens,
            "text_hash": pa.array([hashlib.sha256(text.as_buffer()).hexdigest() for text in columns.texts]),
        }
        yield pa.RecordBatch.from_pydict(made)


def _named(sequence_id: str, branch: Branch, plan: PromptSpec, encoder: LineEncoder) -> Row:
    """The columns of a sample that describe it: its id, its question and its computed answer."""
    question, computed = branch.question, branch.computed or Computed()
    answer_ids = None if computed.answer is None else encoder.completion(computed.answer)
    identity = [sequence_id, question.task, question.name, question.language, branch.horizon.name, encoder.digest]
    if len(question.phrasings) > 1:
        identity.append(f"phrasing {branch.phrasing}")
    if plan.numbers is not None:
        identity.append(f"numbers {plan.numbers.digest}")
    return {
        "sample_id": _digest("|".join(identity)),
        "task": question.task,
        "template": question.name,
        "language": question.language,
        "phrasing": branch.phrasing,
        "horizon": branch.horizon.name,
        "choices": list(question.choices),
        "answer": computed.answer,
        "answer_ids": answer_ids,
        "unanswered": computed.unanswered,
        "max_tokens": _max_tokens(question, plan, encoder, answer_ids),
    }


def _max_tokens(question: Question, plan: PromptSpec, encoder: LineEncoder, answer_ids: list[int] | None = None) -> int:
    """Longest prompt that fits the context together with its longest answer and an end token, in tokens."""
    answers = [encoder.completion(choice) for choice in question.choices] or [answer_ids or []]
    return plan.context_length - 1 - max(map(len, answers))


def _observed(row: Mapping[str, Any], plan: PromptSpec, zone: ZoneInfo) -> Observed:
    profile = dict(row["profile"] or {})
    return Observed(
        sequence_id=row["sequence_id"],
        on=local_date(row["observation_at"], zone),
        profile=profile if plan.numbers is None else plan.numbers.profile(profile),
        folded=row["folded"],
        loan=row["asked_loan"],
    )


def _branch(
    question: Question,
    visible: VisibleHistory,
    *,
    observed: Observed,
    plan: PromptSpec,
    zone: ZoneInfo,
    horizon: Horizon | None = None,
) -> Branch:
    return branch_of(
        question,
        visible,
        observed,
        template=plan.template,
        settings=plan.settings,
        horizon=horizon or plan.horizon,
        zone=zone,
        numbers=plan.numbers,
    )


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
