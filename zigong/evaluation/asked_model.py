"""A model with its question: the value that determines its answers, and its loading."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from zigong.errors import ConfigError
from zigong.evaluation.answers import answer_prompts
from zigong.evaluation.generation import generated_texts
from zigong.evaluation.horizons import further_prompts, horizon_lists
from zigong.instructions.encode import LineEncoder
from zigong.instructions.prompt_spec import PromptSpec
from zigong.recipe import Horizon, Unit
from zigong.training.adapters import load_merged
from zigong.training.devices import device_here
from zigong.training.file_digests import FileDigests, adapter_digests, base_digests
from zigong.training.pretrained import TOKENIZER

MOST_GENERATED = 8  # tokens of an answer in free text


@dataclass(frozen=True, kw_only=True)
class ModelFolders:
    """The folders of the files of a model; ``added`` are the trees of a fused card, or the tower of a joint one."""

    base: Path
    adapter: Path
    added: Path | None = None


@dataclass(frozen=True, kw_only=True)
class AskedModel:
    """A model and its question; it contains the digests of the files, not their paths.

    Attributes:
        base: weights, config and tokenizer of the base model.
        adapter: the LoRA adapter.
        prompts: settings that its prompts are rendered with.
        question: the question in each of its phrasings.
        choices: possible answers, the bad one first.
    """

    base: FileDigests
    adapter: FileDigests
    prompts: PromptSpec
    question: tuple[str, ...]
    choices: tuple[str, str]

    @classmethod
    def of(cls, prompts: PromptSpec, folders: ModelFolders) -> AskedModel:
        """The model in these folders.

        Raises:
            ConfigError: a file is missing or pickled.
        """
        return cls(
            base=base_digests(folders.base),
            adapter=adapter_digests(folders.adapter),
            prompts=prompts,
            question=prompts.question_lines,
            choices=prompts.template.choices,
        )

    @property
    def tokenizer_digest(self) -> str:
        """SHA-256 of the tokenizer file, an input of the ids of samples."""
        return self.base.files[TOKENIZER]

    @property
    def digest(self) -> str:
        """SHA-256 of everything except the sequence that determines an answer, as 64 hex digits."""
        parts = (self.base.digest, self.adapter.digest, self.prompts.digest, *self.question, *self.choices)
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()

    def encoder(self, folders: ModelFolders) -> LineEncoder:
        """The model's own tokenizer.

        Raises:
            DataError: its file is missing or differs from the registered one.
        """
        self.base.verify(folders.base, [TOKENIZER])
        return LineEncoder.of(folders.base)

    def require_unit(self, unit: Unit) -> None:
        """Requires that the model is asked about what the run observes: clients, or their loans.

        Raises:
            ConfigError: it was trained on the other unit.
        """
        if self.prompts.unit != unit:
            raise ConfigError(
                f"observations.unit is {unit}, the model was trained with {self.prompts.unit}",
                action=f"set observations.unit: {self.prompts.unit}, or set registry.model_name to a new name and "
                "release a model of this unit into it",
            )

    def require_same_question(self) -> None:
        """Requires that the template still has the question and the choices of the model.

        Raises:
            ConfigError: the template is missing, or its text has changed since the model was trained.
        """
        template = self.prompts.template
        found = (self.prompts.question_lines, template.choices)
        if found != (self.question, self.choices):
            raise ConfigError(
                f"template {template.name} ({template.language}): the model was asked {self.question} with the "
                f"choices {self.choices}, this version asks {found[0]} with {found[1]}",
                action="a changed text is a new version of a template: restore the file, add the new text as another",
            )


class OpenedModel:
    """A model in memory, loaded after the digests of all its files were verified.

    Attributes:
        asked: the model and its question.
        encoder: the tokenizer of the model.
    """

    def __init__(self, asked: AskedModel, folders: ModelFolders) -> None:
        asked.require_same_question()
        asked.base.verify(folders.base)
        asked.adapter.verify(folders.adapter)
        self.asked = asked
        self.encoder = LineEncoder.of(folders.base)
        self._model = load_merged(folders.base, folders.adapter).to(device_here())

    def answers(
        self,
        prompts: pa.Table,
        *,
        engine: Literal["samples", "trees"],
        batch_tokens: int,
        states: bool = False,
        further: Sequence[Horizon] = (),
    ) -> pa.Table:
        """Answers prompts, and the same prompts about further horizons.

        Args:
            prompts: columns sample_id, user_id and input_ids, ids of this model's tokenizer; null if a prompt does not
                fit its context.
            engine: with ``trees`` the prompts of a user share a forward pass.
            batch_tokens: padded tokens of one forward pass.
            states: whether to return the last hidden states, too.
            further: horizons that the same question is also asked about; with ``trees`` as branches of the same trees.

        Returns:
            sample_id, p_bad, answer (null on a miss) and miss, with ``states`` also state, and with ``further`` their
            probabilities of bad in the column ``horizons``; all null for a prompt that does not fit.
        """
        fitting = prompts.filter(prompts["input_ids"].is_valid())
        ids = [np.array(ids, dtype=np.int32) for ids in fitting["input_ids"].to_pylist()]
        others = further_prompts(ids, self.asked.prompts, self.encoder, further)
        rows = [*range(len(ids)), *(other.row for other in others)]
        names, owners = (np.array(fitting[key].to_pylist(), dtype=object)[rows] for key in ("sample_id", "user_id"))
        both = answer_prompts(
            self._model,
            names.tolist(),
            [*ids, *(other.input_ids for other in others)],
            [self.encoder.completion(choice) for choice in self.asked.choices],
            batch_tokens=batch_tokens,
            owners=owners.tolist() if engine == "trees" else None,
            states=states,
        )
        found = both.slice(0, len(ids))
        if further:
            p_bad = np.full((len(ids), len(further)), np.nan)
            p_bad[[other.row for other in others], [other.place for other in others]] = both["p_bad"].to_numpy()[
                len(ids) :
            ]
            found = found.append_column("horizons", horizon_lists(further, p_bad))
        words = pa.array(self.asked.choices).take(found["answer"].combine_chunks())
        answers = pc.if_else(found["miss"].combine_chunks(), pa.scalar(None, pa.string()), words)
        answered = found.set_column(found.column_names.index("answer"), "answer", answers)
        unanswered = prompts.filter(prompts["input_ids"].is_null()).select(["sample_id"])
        return pa.concat_tables([answered, unanswered], promote_options="default") if len(unanswered) else answered

    def free_answers(self, prompts: pa.Table, *, batch_tokens: int) -> pa.Table:
        """Columns sample_id and generated: what the model continues each prompt with, at most MOST_GENERATED tokens.

        Args:
            prompts: columns sample_id and input_ids; prompts that do not fit the context are left out.
            batch_tokens: padded tokens of one batch.
        """
        fitting = prompts.filter(prompts["input_ids"].is_valid())
        texts = generated_texts(
            self._model,
            self.encoder.tokenizer,
            [np.array(ids, dtype=np.int32) for ids in fitting["input_ids"].to_pylist()],
            most_tokens=MOST_GENERATED,
            batch_tokens=batch_tokens,
        )
        return pa.table({"sample_id": fitting["sample_id"], "generated": pa.array(texts, pa.string())})
