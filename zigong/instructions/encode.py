"""Encodes rendered lines as token ids, line by line, so that equal text gives equal tokens.

Training, scoring and serving all use this encoder.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from functools import cached_property, lru_cache
from pathlib import Path

from tokenizers import Tokenizer

from zigong.errors import ConfigError
from zigong.files.digests import file_digest

CACHED_LINES = 200_000


class LineEncoder:
    """Encodes lines with a tokenizer file and caches them, since event lines repeat.

    If the tokenizer's post-processor prepends BOS (Mistral, Llama), every prompt begins with it.

    Args:
        tokenizer: a fast tokenizer.
        digest: identifies the tokenizer in sample ids.

    Attributes:
        begin: ids at the beginning of every prompt.
        spaced: whether the tokenizer puts a space before a text itself (Llama 2, Mistral).
    """

    def __init__(self, tokenizer: Tokenizer, digest: str = "") -> None:
        self.tokenizer = tokenizer
        self.begin: list[int] = tokenizer.encode("", add_special_tokens=True).ids
        self.spaced = "▁" in "".join(tokenizer.encode("a", add_special_tokens=False).tokens[:1])
        self._line = lru_cache(maxsize=CACHED_LINES)(self._encode)
        self.digest = digest

    @classmethod
    def of(cls, folder: str | Path) -> LineEncoder:
        """The encoder of a model folder in Hugging Face format.

        Raises:
            ConfigError: the folder has no fast tokenizer.
        """
        file = Path(folder) / "tokenizer.json"
        if not file.is_file():
            raise ConfigError(f"{file} does not exist", action="give base.path a folder with a fast tokenizer")
        tokenizer = Tokenizer.from_file(str(file))
        tokenizer.no_truncation()  # some files hold the lengths of their training
        tokenizer.no_padding()
        return cls(tokenizer, file_digest(file))

    def line(self, line: str) -> tuple[int, ...]:
        """Ids of one history line with its newline."""
        return self._line(line + "\n")

    def history(self, lines: Iterable[str]) -> list[int]:
        """Ids of history lines, each with its newline."""
        return [*self.begin, *(token for line in lines for token in self.line(line))]

    def branch(self, lines: Iterable[str]) -> list[int]:
        """Ids of the lines that follow a history; the last line, the question, has no newline."""
        *before, question = lines
        return [*(token for line in before for token in self._line(line + "\n")), *self._line(question)]

    def completion(self, answer: str) -> list[int]:
        """Ids of an answer after the question, from which one space separates it."""
        return list(self._line(answer if self.spaced else " " + answer))

    def knows(self, text: str) -> bool:
        """Whether a text encodes without the unknown token; byte-level tokenizers encode any text."""
        return self._unknown is None or self._unknown not in self._encode(text)

    @cached_property
    def _unknown(self) -> int | None:
        model = json.loads(self.tokenizer.to_str())["model"]
        token = model.get("unk_token")
        number: int | None = model.get("unk_id") if token is None else self.tokenizer.token_to_id(token)
        return number

    def _encode(self, text: str) -> tuple[int, ...]:
        return tuple(self.tokenizer.encode(text, add_special_tokens=False).ids)
