"""A model with the one question it is asked: the value that its answers depend on, and the way it is opened."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from zigong.errors import ConfigError
from zigong.evaluation.answers import answer_prompts
from zigong.instructions.encode import LineEncoder
from zigong.instructions.prompt_spec import PromptSpec
from zigong.training.adapters import load_adapted
from zigong.training.file_digests import TOKENIZER, FileDigests, adapter_digests, base_digests


@dataclass(frozen=True, kw_only=True)
class ModelFolders:
    """Where the files of a model lie."""

    base: Path
    adapter: Path


@dataclass(frozen=True, kw_only=True)
class AskedModel:
    """A model and what it is asked; it says what the files hold, and not where they lie.

    Attributes:
        base: weights, config and tokenizer of the base model.
        adapter: the LoRA adapter.
        prompts: how its prompts are made.
        question: the question in each of its wordings.
        choices: admissible answers, the bad one first.
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
        """SHA-256 of the tokenizer file, which the names of samples hold."""
        return self.base.files[TOKENIZER]

    @property
    def digest(self) -> str:
        """SHA-256 of everything that an answer depends on but the sequence, as 64 hex digits."""
        parts = (self.base.digest, self.adapter.digest, self.prompts.digest, *self.question, *self.choices)
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()

    def encoder(self, folders: ModelFolders) -> LineEncoder:
        """The model's own tokenizer.

        Raises:
            DataError: its file is missing or another one.
        """
        self.base.verify(folders.base, [TOKENIZER])
        return LineEncoder.of(folders.base)

    def require_same_words(self) -> None:
        """Refuses a model whose question this version of ZiGong would put into other words.

        Raises:
            ConfigError: the template is gone, or its text has changed since the model learned it.
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
    """A model in memory, after the digests of all its files were compared.

    Attributes:
        asked: what was opened.
        encoder: its own tokenizer.
    """

    def __init__(self, asked: AskedModel, folders: ModelFolders) -> None:
        asked.require_same_words()
        asked.base.verify(folders.base)
        asked.adapter.verify(folders.adapter)
        self.asked = asked
        self.encoder = LineEncoder.of(folders.base)
        self._model = load_adapted(folders.base, folders.adapter).get_base_model()

    def answers(self, prompts: pa.Table, *, engine: Literal["samples", "trees"], batch_tokens: int) -> pa.Table:
        """Answers prompts.

        Args:
            prompts: columns sample_id, user_id and input_ids, ids of this model's tokenizer; null where a prompt does
                not fit its context.
            engine: ``trees``: the prompts of a user share a pass.
            batch_tokens: padded tokens of one pass.

        Returns:
            sample_id, p_bad, answer (null on a miss) and miss; all null for a prompt that does not fit.
        """
        asked = prompts.filter(prompts["input_ids"].is_valid())
        found = answer_prompts(
            self._model,
            asked["sample_id"].to_pylist(),
            [np.array(ids, dtype=np.int32) for ids in asked["input_ids"].to_pylist()],
            [self.encoder.completion(choice) for choice in self.asked.choices],
            batch_tokens=batch_tokens,
            owners=asked["user_id"].to_pylist() if engine == "trees" else None,
        )
        words = pa.array(self.asked.choices).take(found["answer"].combine_chunks())
        answers = pc.if_else(found["miss"].combine_chunks(), pa.scalar(None, pa.string()), words)
        answered = found.set_column(found.column_names.index("answer"), "answer", answers)
        unasked = prompts.filter(prompts["input_ids"].is_null()).select(["sample_id"])
        return pa.concat_tables([answered, unasked], promote_options="default") if len(unasked) else answered
