"""The tokenizer of a tiny base model: complete words of the lender's own event lines."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from tokenizers import AddedToken, Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from transformers import PreTrainedTokenizerFast

from zigong.errors import ConfigError, DataError
from zigong.files.digests import file_digest

PAD, UNKNOWN, END = "[PAD]", "[UNK]", "[EOS]"


def train_tokenizer(lines: Iterable[str], fixed_lines: Sequence[str]) -> PreTrainedTokenizerFast:
    """Trains a word-level tokenizer on the words of ``lines``; every fixed line is one token.

    Words are sorted by their text, so equal lines in any order give an equal tokenizer. Encoding a text equals encoding
    its lines one after the other.

    Args:
        lines: rendered event and profile lines from before the train cut-off.
        fixed_lines: constant text of the template: questions, and the choices.

    Raises:
        ConfigError: a fixed line is empty or has several lines.
        DataError: a line of ``lines`` contains unknown words when encoded.
    """
    wrong = [line for line in fixed_lines if not line.strip() or line != line.strip() or "\n" in line]
    if wrong:
        raise ConfigError(f"fixed lines must be single stripped lines, found {wrong!r}", action="edit the template")
    splitter, fixed = WhitespaceSplit(), set(fixed_lines)
    unique = sorted(set(lines) - fixed)
    words = {word for line in unique for word, _ in splitter.pre_tokenize_str(line)} - fixed - {PAD, UNKNOWN, END}
    vocabulary = {word: index for index, word in enumerate([PAD, UNKNOWN, END, *sorted(words)])}
    tokenizer = Tokenizer(WordLevel(vocabulary, unk_token=UNKNOWN))
    tokenizer.pre_tokenizer = splitter
    tokenizer.add_special_tokens([AddedToken(token, normalized=False) for token in (PAD, UNKNOWN, END)])
    tokenizer.add_tokens([AddedToken(line, single_word=True, normalized=False) for line in sorted(fixed)])
    unknown = vocabulary[UNKNOWN]
    broken = [
        line for line, encoding in zip(unique, tokenizer.encode_batch(unique), strict=True) if unknown in encoding.ids
    ]
    if broken:
        raise DataError(
            f"{len(broken)} lines hold a fixed line inside a word, or {UNKNOWN} itself",
            action="change the choice or question that is part of a word in the events",
        )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token=PAD, unk_token=UNKNOWN, eos_token=END, clean_up_tokenization_spaces=False
    )


def tokenizer_digest(folder: Path) -> str:
    """SHA-256 of the tokenizer file of a model folder, as 64 hex digits.

    Raises:
        ConfigError: the folder has no ``tokenizer.json``.
    """
    file = folder / "tokenizer.json"
    if not file.is_file():
        raise ConfigError(f"{file} does not exist", action="give a model folder with a fast tokenizer")
    return file_digest(file)
