from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file
from tokenizers import Tokenizer
from transformers import LlamaConfig

from tests.support.families import BEGIN, LINES, QUESTION, byte_level_tokenizer, make_family, sentencepiece_tokenizer
from tests.support.finished import REPOSITORY
from tests.support.tiny_models import make_samples
from zigong.errors import ConfigError
from zigong.instructions.encode import LineEncoder
from zigong.recipe import Recipe, load_recipe
from zigong.tokens.samples import answer_ids, trainable
from zigong.training.base import base_digest, load_model
from zigong.training.pretrained import end_ids, open_config, require_usable, weight_files

DEMO = REPOSITORY / "recipes" / "demo.yaml"


def _recipe(path: Path | str, *overrides: str) -> Recipe:
    contexts = ("agent.context_length=256", "finetune.context_length=256")
    return load_recipe(DEMO, ["base.tiny=null", f"base.path={path}", *contexts, *overrides])


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_family("llama_3", tmp_path_factory.mktemp("llama"))


def _copied(source: Path, folder: Path, **changes: Any) -> Path:
    """The same model with changes in its config.json."""
    folder.mkdir(parents=True)
    for file in source.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    config = json.loads((folder / "config.json").read_text("utf-8"))
    (folder / "config.json").write_text(json.dumps({**config, **changes}), "utf-8")
    return folder


def test_a_usable_base_is_found_by_its_folder(llama: Path) -> None:
    assert require_usable(_recipe(llama)) == llama.resolve()
    assert require_usable(load_recipe(DEMO)) is None


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"model_type": "granite"}, r"family granite, .* divides its logits \(logits_scaling\)"),
        ({"model_type": "cohere2"}, r"family cohere2, .* multiplies its logits \(logit_scale\)"),
        ({"model_type": "gemma2"}, "family gemma2, .* soft-caps or scales its logits"),
        ({"model_type": "gpt2"}, "family gpt2, .* not tested here"),
        ({"model_type": "mixtral"}, "name a base of one of llama, mistral, qwen2, qwen3"),
        ({"rope_parameters": {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e4}}, "type dynamic"),
        ({"quantization_config": {"quant_method": "awq", "bits": 4}}, "quantised weights"),
    ],
)
def test_a_base_that_is_not_supported_is_refused_by_name(
    llama: Path, tmp_path: Path, changes: dict[str, Any], named: str
) -> None:
    folder = _copied(llama, tmp_path / "base", **changes)
    with pytest.raises(ConfigError, match=named):
        require_usable(_recipe(folder))
    with pytest.raises(ConfigError, match=named):
        load_model(folder)


def test_a_context_beyond_the_positions_of_the_base_is_refused_with_its_key(llama: Path) -> None:
    for section in ("agent", "finetune"):
        with pytest.raises(ConfigError, match=rf"{section}\.context_length is 257, but the base knows 256 positions"):
            require_usable(_recipe(llama, f"{section}.context_length=257"))


def test_a_tokenizer_with_more_tokens_than_embeddings_is_refused(llama: Path, tmp_path: Path) -> None:
    folder = _copied(llama, tmp_path / "base")
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.add_tokens([f"new{number}" for number in range(80)])
    tokenizer.save(str(folder / "tokenizer.json"))
    with pytest.raises(ConfigError, match=r"has a token of id \d+, but the base has 360 embeddings"):
        require_usable(_recipe(folder))


def _in_shards(folder: Path, names: tuple[str, ...]) -> None:
    """Replaces the weights by an index and files of one number each."""
    (folder / "model.safetensors").unlink()
    for name in names:
        save_file({"a": np.zeros(1)}, folder / name)
    listed = {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": listed}), "utf-8")


def test_the_weights_are_those_of_the_index_whatever_lies_beside_them(llama: Path, tmp_path: Path) -> None:
    shards = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")
    folder = _copied(llama, tmp_path / "base")
    _in_shards(folder, shards)
    before = base_digest(folder)
    save_file({"a": np.zeros(1)}, folder / "consolidated.safetensors")
    assert [file.name for file in weight_files(folder)] == list(shards)
    assert base_digest(folder) == before
    (folder / shards[1]).unlink()
    with pytest.raises(ConfigError, match="lacks model-00002-of-00002"):
        weight_files(folder)


def test_a_hub_id_is_the_model_in_the_local_cache_at_its_revision(
    llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commits = {"main": "1" * 40, "v2": "2" * 40}
    cached = tmp_path / "models--lender--base"
    for name, commit in commits.items():
        _copied(llama, cached / "snapshots" / commit)
        (cached / "refs").mkdir(exist_ok=True)
        (cached / "refs" / name).write_text(commit)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    assert require_usable(_recipe("lender/base")) == cached / "snapshots" / commits["main"]
    assert require_usable(_recipe("lender/base", "base.revision=v2")) == cached / "snapshots" / commits["v2"]
    with pytest.raises(ConfigError, match="neither a folder nor a model in the local cache") as absent:
        require_usable(_recipe("lender/base", "base.revision=v3"))
    assert "hf download lender/base --revision v3" in absent.value.action
    with pytest.raises(ConfigError, match="is not a folder"):
        require_usable(_recipe(tmp_path / "none"))


def test_a_recipe_without_a_revision_keeps_its_digest_and_one_with_it_has_another() -> None:
    plain = _recipe("lender/base")
    assert "revision" not in plain.model_dump()["base"]
    assert _recipe("lender/base", "base.revision=v2").digest() != plain.digest()
    with pytest.raises(ConfigError, match="revision belongs to path"):
        load_recipe(DEMO, ["base.revision=v2"])


@pytest.mark.parametrize(("given", "ends"), [(None, ()), (7, (7,)), ([7, 9], (7, 9))])
def test_a_base_has_no_end_token_or_one_or_several(given: Any, ends: tuple[int, ...]) -> None:
    assert end_ids(LlamaConfig(eos_token_id=given)) == ends


def test_any_end_token_is_taken_off_and_the_first_one_appended() -> None:
    for given in ([7], [7, 2], [7, 9]):
        completion = np.array(given, np.int32)
        assert answer_ids(completion, ends=(2, 9), count_eos=False).tolist() == [7]
        assert answer_ids(completion, ends=(2, 9), count_eos=True).tolist() == [7, 2]


def test_an_end_token_that_counts_must_exist() -> None:
    samples = make_samples(3)
    assert len(trainable(samples, ends=(), count_eos=False, context_length=64)) == 3
    with pytest.raises(ConfigError, match="the base has no end token"):
        trainable(samples, ends=(), count_eos=True, context_length=64)


@pytest.mark.parametrize("make", [byte_level_tokenizer, sentencepiece_tokenizer])
def test_a_prompt_is_the_lines_and_the_answer_without_a_chat_template(
    make: Callable[[], Tokenizer], tmp_path: Path
) -> None:
    tokenizer = make()
    tokenizer.enable_truncation(5)
    tokenizer.enable_padding(length=50)
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    encoder = LineEncoder.of(tmp_path)
    ids = [*encoder.history(LINES[:2]), *encoder.branch([QUESTION]), *encoder.completion("bad")]
    text = encoder.tokenizer.decode(ids, skip_special_tokens=False)
    if make is sentencepiece_tokenizer:  # it spaces every text it is given
        assert text == f"{BEGIN} " + "\n ".join([*LINES[:2], QUESTION]) + " bad"
    else:
        assert text == "\n".join([*LINES[:2], QUESTION]) + " bad"


def test_a_family_with_a_configuration_of_its_own_is_opened(llama: Path) -> None:
    assert end_ids(open_config(llama)) == (0, 1)
