"""A named base that is trained further on event text is another base, with the same tokenizer."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from jobs.build_base import build_base
from tests.support.families import LINES, make_family
from tests.support.finished import FinishedRun
from tests.support.later import copied_lake
from zigong.cli.estimate import estimate_run
from zigong.errors import DataError
from zigong.instructions.corpus import encoded_events
from zigong.instructions.encode import LineEncoder
from zigong.recipe import ContinuedBase, load_recipe
from zigong.recipe.base import Base
from zigong.runs.handover import TrainedBase
from zigong.runs.launch import run_step
from zigong.runs.run import open_run
from zigong.tokens.losses import token_losses
from zigong.tokens.samples import TokenIds, labelled_batch
from zigong.training.base import base_digest, load_model
from zigong.training.continued import continue_base
from zigong.training.pretrained import TOKENIZER, open_config
from zigong.training.tokenizer import tokenizer_digest

SETTINGS = ContinuedBase(epochs=6, learning_rate=5e-3, batch_tokens=512, context_length=48)
MISTRAL = Path(__file__).resolve().parents[2] / "recipes" / "mistral_7b.yaml"


def _lines(users: int) -> list[list[str]]:
    """Histories of a few events that repeat, and the gap to the cut-off."""
    return [[*(LINES[(user + event) % 4] for event in range(8)), "+9d"] for user in range(users)]


def _loss(folder: Path) -> float:
    """Mean loss per token of a history."""
    (ids,) = encoded_events(_lines(1), LineEncoder.of(folder))
    model = load_model(folder)
    with torch.no_grad():
        return float(token_losses(model, labelled_batch([ids[:1]], [ids[1:]])).mean())


@pytest.mark.parametrize("family", ["llama_3", "smollm2", "mistral_v0_3"])
def test_the_base_learns_the_text_and_keeps_architecture_and_tokenizer(family: str, tmp_path: Path) -> None:
    base = make_family(family, tmp_path / "base")
    before = base_digest(base)
    timelines = encoded_events(_lines(30), LineEncoder.of(base))
    found = [
        continue_base(base, timelines, SETTINGS, seed=seed, torch_threads=1, folder=tmp_path / name)
        for name, seed in (("a", 1), ("again", 1), ("other", 2))
    ]
    assert found[0].digest == found[1].digest == base_digest(tmp_path / "a") != found[2].digest
    assert base_digest(base) == before != found[0].digest
    assert found[0].tokenizer_digest == tokenizer_digest(base)
    assert (tmp_path / "a" / TOKENIZER).read_bytes() == (base / TOKENIZER).read_bytes()
    assert _loss(tmp_path / "a") < 0.5 * _loss(base)
    one, two = (open_config(folder) for folder in (base, tmp_path / "a"))
    assert (one.model_type, one.tie_word_embeddings) == (two.model_type, two.tie_word_embeddings)
    assert found[0].parameters == sum(item.numel() for item in load_model(base).parameters())
    assert found[0].tokens == 6 * sum(len(ids) - 1 for ids in timelines)


def test_checkpointed_passes_train_the_same_base(tmp_path: Path) -> None:
    base = make_family("llama_3", tmp_path / "base")
    timelines = encoded_events(_lines(6), LineEncoder.of(base))
    weights = []
    for name, repeated in (("a", False), ("b", True)):
        settings = SETTINGS.model_copy(update={"gradient_checkpointing": repeated, "epochs": 1})
        continue_base(base, timelines, settings, seed=1, torch_threads=1, folder=tmp_path / name)
        weights.append(load_model(tmp_path / name).state_dict())
    for name, tensor in weights[0].items():
        torch.testing.assert_close(weights[1][name], tensor, rtol=0, atol=1e-6)


def test_the_text_has_the_events_and_nothing_of_a_question(tmp_path: Path) -> None:
    encoder = LineEncoder.of(make_family("llama_3", tmp_path / "base"))
    (ids,) = encoded_events([["+28d instalment paid 50 EUR, 0 days late", "+9d"]], encoder)
    assert ids.dtype == np.int32
    assert ids.tolist() == encoder.history(["+28d instalment paid 50 EUR, 0 days late"])


def test_text_of_a_single_token_is_refused(tmp_path: Path) -> None:
    base = make_family("smollm2", tmp_path / "base")
    with pytest.raises(DataError, match="no timeline has two tokens"):
        continue_base(base, [np.array([5], dtype=np.int32)], SETTINGS, seed=1, torch_threads=1, folder=tmp_path / "a")


def test_only_a_named_base_is_trained_further() -> None:
    with pytest.raises(ValidationError, match="continued belongs to path or gguf"):
        Base.model_validate({"continued": {}})
    plain = Base(path="models/x", tiny=None)
    assert "continued" not in plain.model_dump(mode="json")  # digests of recipes without it stay


def test_the_plan_counts_the_further_training() -> None:
    plain = estimate_run(load_recipe(MISTRAL, []))
    further, longer = (
        estimate_run(load_recipe(MISTRAL, [f"base.continued={{epochs: {epochs}}}"])) for epochs in (1, 3)
    )
    assert "continue base" not in plain.seconds
    assert longer.seconds["continue base"] > 2 * further.seconds["continue base"] > 0
    assert plain.memory_gib is not None
    assert further.memory_gib is not None
    assert further.memory_gib > 3 * plain.memory_gib  # all weights with gradients and moments
    few = estimate_run(load_recipe(MISTRAL, ["base.continued={max_tokens: 1000}"]))
    assert few.seconds["continue base"] < further.seconds["continue base"]


@pytest.mark.soak
def test_the_job_leaves_a_base_trained_on_clients_who_may_be_learned_from(
    tiny_run: FinishedRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, base = copied_lake(tiny_run, tmp_path / "lake"), make_family("llama_3", tmp_path / "base")
    changes = [f"lakehouse.root={root}", "base.tiny=null", f"base.path={base}", "base.continued={context_length: 40}"]
    contexts = [f"{section}.context_length=64" for section in ("agent", "finetune")]
    run = open_run(load_recipe(tiny_run.recipe_file, [*changes, *contexts]), root / "_runs", "continued")
    seen: list[int] = []

    def counted(lines: list[list[str]], encoder: LineEncoder) -> list[TokenIds]:
        seen.append(len(lines))
        return encoded_events(lines, encoder)

    monkeypatch.setattr("jobs.build_base.encoded_events", counted)
    done = run_step("build_base", build_base, run)
    assert (done.code, done.message) == (0, "")
    trained = run.take(TrainedBase)
    assert trained.base_digest == base_digest(trained.folder) != base_digest(base)
    assert trained.tokenizer_digest == tokenizer_digest(base)
    assert run.metrics()["base.tokens"] > 0
    assert 0 < seen[0] < 0.95 * 400  # a part of the 400 clients is held out
    assert not run.scratch("build_base").exists()
