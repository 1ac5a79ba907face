from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from tests.support.tiny_models import CHOICES, QUESTION, TINY, WORDS, make_base
from zigong.errors import ConfigError, DataError
from zigong.tokens.losses import label_logits, sample_losses
from zigong.tokens.samples import labelled_batch
from zigong.training.base import base_digest, load_model, train_base
from zigong.training.pretraining import timeline_pieces
from zigong.training.tokenizer import tokenizer_digest, train_tokenizer

LINES = ["+1d paid 100", "+30d late 30", "+2d opened loan", "limit 5000"]


def test_a_text_encodes_as_its_lines_one_after_the_other() -> None:
    tokenizer = train_tokenizer(LINES, [QUESTION, *CHOICES])
    lines = [*LINES, QUESTION, " bad", "unseen word"]
    joined = tokenizer("\n".join(lines))["input_ids"]
    assert joined == [token for line in lines for token in tokenizer(line + "\n")["input_ids"]]


def test_a_constant_line_is_one_token_and_every_word_is_one() -> None:
    tokenizer = train_tokenizer(LINES, [QUESTION, *CHOICES])
    assert [len(tokenizer(text)["input_ids"]) for text in (QUESTION, " bad", "good\n", LINES[0])] == [1, 1, 1, 3]
    assert tokenizer.unk_token_id not in tokenizer(" ".join(LINES))["input_ids"]
    assert tokenizer.unk_token_id in tokenizer("unseen")["input_ids"]


def test_a_choice_inside_a_longer_word_is_not_encoded_as_the_choice() -> None:
    tokenizer = train_tokenizer(["badge of honour"], ["bad"])
    assert tokenizer("badge")["input_ids"] != tokenizer("bad")["input_ids"]
    with pytest.raises(DataError, match="inside a word"):
        train_tokenizer(["very-bad news"], ["bad"])


def test_the_tokenizer_does_not_depend_on_the_order_of_lines(tmp_path: Path) -> None:
    shuffled = [*LINES[::-1], *LINES]
    digests = []
    for number, lines in enumerate((LINES, shuffled)):
        train_tokenizer(lines, [QUESTION, *CHOICES]).save_pretrained(tmp_path / str(number))
        digests.append(tokenizer_digest(tmp_path / str(number)))
    assert digests[0] == digests[1]


def test_a_fixed_line_of_several_lines_is_rejected() -> None:
    with pytest.raises(ConfigError, match="single stripped lines"):
        train_tokenizer(LINES, ["two\nlines"])


@pytest.mark.parametrize("size", [0, 1, 2, 9, 10, 11, 19, 20, 28])
def test_pieces_of_a_timeline_predict_every_token_but_the_first_once(size: int) -> None:
    pieces = timeline_pieces(range(size), 10)
    assert all(2 <= len(piece) <= 10 for piece in pieces)
    assert [token for piece in pieces for token in piece[1:]] == list(range(1, size))


def test_equal_seeds_give_equal_models_and_other_seeds_others(tmp_path: Path) -> None:
    folders = [make_base(tmp_path / name, seed=seed) for name, seed in (("a", 1), ("b", 1), ("c", 2))]
    first, second, third = (base_digest(folder) for folder in folders)
    assert first == second != third
    manifest = json.loads((folders[0] / "manifest.json").read_text())
    assert manifest["digest"] == first
    assert manifest["tokenizer_digest"] == tokenizer_digest(folders[0])


def test_pretraining_learns_a_rule_of_the_timelines(tmp_path: Path) -> None:
    tokenizer = train_tokenizer([" ".join(WORDS)], CHOICES)
    timelines = [[3 + (start + step) % 20 for step in range(30)] for start in range(20)] * 4
    tiny = TINY.model_copy(update={"epochs": 12, "learning_rate": 0.01})
    losses: list[float] = []
    manifest = train_base(
        timelines,
        tokenizer,
        tiny,
        seed=1,
        torch_threads=1,
        folder=tmp_path / "base",
        progress=lambda *report: losses.append(report[2]),
    )
    assert manifest.final_loss < 0.1 < losses[0]
    assert manifest.steps == len(losses)
    assert manifest.tokens == 12 * sum(len(timeline) - 1 for timeline in timelines)


def test_pretraining_stops_at_max_tokens(tmp_path: Path) -> None:
    tokenizer = train_tokenizer([" ".join(WORDS)], CHOICES)
    tiny = TINY.model_copy(update={"epochs": 50, "max_tokens": 1000})
    manifest = train_base([[3, 4, 5, 6] * 10] * 40, tokenizer, tiny, seed=1, torch_threads=1, folder=tmp_path / "base")
    assert 1000 <= manifest.tokens < 1000 + tiny.batch_tokens


def test_logits_at_label_positions_equal_those_of_the_full_model_on_one_row(tmp_path: Path) -> None:
    model = load_model(make_base(tmp_path / "base"))
    generator = np.random.default_rng(0)
    sizes = [(1, 2), (7, 1), (30, 3)]
    prompts = [generator.integers(3, 23, a).astype(np.int32) for a, _ in sizes]
    answers = [generator.integers(3, 23, b).astype(np.int32) for _, b in sizes]
    batch = labelled_batch(prompts, answers)
    got, losses, start = label_logits(model, batch), sample_losses(model, batch), 0
    for row, (prompt, answer) in enumerate(zip(prompts, answers, strict=True)):
        ids = torch.tensor(np.concatenate([prompt, answer]))[None].long()
        expected = model(input_ids=ids).logits[0, len(prompt) - 1 : -1]
        torch.testing.assert_close(got[start : start + len(answer)], expected, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(losses[row], cross_entropy(expected, torch.tensor(answer).long()))
        start += len(answer)


def test_pickled_weights_are_rejected_by_name(tmp_path: Path) -> None:
    folder = make_base(tmp_path / "base")
    (folder / "pytorch_model.bin").write_bytes(b"")
    with pytest.raises(ConfigError, match=r"pytorch_model\.bin"):
        load_model(folder)


def test_a_failed_training_leaves_the_previous_model_unchanged(tmp_path: Path) -> None:
    folder = make_base(tmp_path / "base")
    before = base_digest(folder)
    with pytest.raises(DataError, match="two tokens"):
        train_base([[3]], train_tokenizer(WORDS, CHOICES), TINY, seed=1, torch_threads=1, folder=folder)
    assert base_digest(folder) == before
