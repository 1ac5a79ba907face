from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from gguf import MODEL_ARCH, GGMLQuantizationType, GGUFWriter, dequantize, get_tensor_name_map, quantize
from numpy.typing import NDArray

from jobs.build_base import build_base
from tests.support.families import make_family, theirs
from tests.support.finished import REPOSITORY
from zigong.errors import ConfigError
from zigong.lakehouse.paths import LakehousePaths
from zigong.recipe import Recipe, load_recipe
from zigong.release.serving import serving_base
from zigong.runs.handover import TrainedBase
from zigong.runs.job import Job, runs_folder
from zigong.runs.launch import run_step
from zigong.runs.run import open_run
from zigong.runs.steps import steps_of
from zigong.training.base import base_digest, load_model
from zigong.training.gguf_files import convert_gguf, open_gguf
from zigong.training.pretrained import end_ids, require_usable

ARCHITECTURES = {"llama": MODEL_ARCH.LLAMA, "qwen2": MODEL_ARCH.QWEN2, "qwen3": MODEL_ARCH.QWEN3}
SIZES = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "eos_token_id": 1,
    "rope_parameters": {"rope_type": "default", "rope_theta": 5e4},
}
Values = NDArray[np.float32]


def write_gguf(model: Path, file: Path, architecture: str, *, q8: bool, change: Callable[[GGUFWriter], None]) -> None:
    """Writes a model folder as llama.cpp's converter does, and its tokenizer.json beside it."""
    opened = theirs(model)
    config, heads = (
        opened.config,
        {"attn_q": opened.config.num_attention_heads, "attn_k": opened.config.num_key_value_heads},
    )
    writer = GGUFWriter(str(file), architecture)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(heads["attn_q"])
    writer.add_head_count_kv(heads["attn_k"])
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_key_length(getattr(config, "head_dim", None) or config.hidden_size // heads["attn_q"])
    writer.add_vocab_size(config.vocab_size)
    words = json.loads((model / "tokenizer.json").read_text("utf-8"))["model"]["vocab"]
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(sorted(words, key=words.get))
    writer.add_eos_token_id(config.eos_token_id)
    names = get_tensor_name_map(ARCHITECTURES[architecture], config.num_hidden_layers)
    for name, weight in opened.state_dict().items():
        if name == "lm_head.weight" and config.tie_word_embeddings:
            continue
        theirs_name = names.get_name(name, try_suffixes=(".weight", ".bias"))
        values = weight.numpy()
        part = theirs_name.split(".")[-2]
        if architecture == "llama" and part in heads:
            values = _adjacent(values, heads[part])
        if q8 and values.ndim == 2:
            writer.add_tensor(
                theirs_name, quantize(values, GGMLQuantizationType.Q8_0), raw_dtype=GGMLQuantizationType.Q8_0
            )
        else:
            writer.add_tensor(theirs_name, np.ascontiguousarray(values))
    change(writer)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    shutil.copyfile(model / "tokenizer.json", file.parent / "tokenizer.json")


def _adjacent(values: Values, heads: int) -> Values:
    """Rows of a projection in llama.cpp's order: the two that rotate together are adjacent."""
    return values.reshape(heads, 2, len(values) // heads // 2, -1).swapaxes(1, 2).reshape(values.shape)


def _file(
    folder: Path,
    family: str,
    architecture: str,
    *,
    q8: bool = False,
    change: Callable[[GGUFWriter], None] = lambda _: None,
) -> tuple[Path, Path]:
    model, file = make_family(family, folder / "model", **SIZES), folder / "gguf" / "model.gguf"
    file.parent.mkdir()
    write_gguf(model, file, architecture, q8=q8, change=change)
    return model, file


def _recipe(file: Path, *overrides: str) -> Recipe:
    contexts = ("agent.context_length=256", "finetune.context_length=256")
    demo = REPOSITORY / "recipes" / "demo.yaml"
    return load_recipe(demo, ["base.tiny=null", f"base.gguf={file}", *contexts, *overrides])


@pytest.mark.parametrize(
    ("family", "architecture"),
    [("mistral_v0_3", "llama"), ("smollm2", "llama"), ("qwen2", "qwen2"), ("qwen3", "qwen3")],
)
def test_a_converted_file_is_the_model_that_was_written(family: str, architecture: str, tmp_path: Path) -> None:
    model, file = _file(tmp_path, family, architecture)
    assert require_usable(_recipe(file)) is None
    expected = theirs(model)
    parameters = convert_gguf(file, tmp_path / "base")
    found = load_model(tmp_path / "base")
    ids = torch.randint(3, 300, (2, 40), generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        torch.testing.assert_close(found(ids).logits, expected(ids).logits, rtol=1e-6, atol=1e-6)
    assert parameters == sum(parameter.numel() for parameter in expected.parameters())
    assert end_ids(found.config) == (1,)
    assert (tmp_path / "base" / "tokenizer.json").read_bytes() == (model / "tokenizer.json").read_bytes()


def test_quantised_weights_are_dequantised(tmp_path: Path) -> None:
    model, file = _file(tmp_path, "qwen2", "qwen2", q8=True)
    convert_gguf(file, tmp_path / "base")
    name = "model.layers.1.mlp.up_proj.weight"
    written = theirs(model).state_dict()[name].numpy()
    stored = dequantize(quantize(written, GGMLQuantizationType.Q8_0), GGMLQuantizationType.Q8_0)
    found = load_model(tmp_path / "base").state_dict()[name].numpy()
    np.testing.assert_array_equal(found, stored)
    assert not np.array_equal(found, written)


def test_the_step_of_the_base_leaves_the_converted_model_for_the_steps_after_it(tmp_path: Path) -> None:
    _, file = _file(tmp_path, "smollm2", "llama")
    recipe = _recipe(file, f"lakehouse.root={tmp_path / 'lake'}")
    assert "build_base" in [step.name for step in steps_of(recipe)]
    run = open_run(recipe, runs_folder(recipe), "gguf")
    assert run_step("build_base", build_base, run).code == 0
    job = Job(step="build_instructions", run=run, paths=LakehousePaths.at(recipe.lakehouse.root))
    base = serving_base(job)
    assert base_digest(base) == job.take(TrainedBase).base_digest
    assert run.metrics()["base.parameters"] == load_model(base).num_parameters()


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda writer: writer.add_string("llama.rope.scaling.type", "linear"), "has scaled rotary positions"),
        (lambda writer: writer.add_tensor("rope_freqs.weight", np.ones(8, np.float32)), r"rope_freqs\.weight"),
        (lambda writer: writer.add_uint32("llama.attention.sliding_window", 16), "has a sliding window"),
        (lambda writer: writer.add_uint16("split.count", 3), "has weights in several files"),
    ],
)
def test_what_transformers_would_leave_out_is_refused_by_name(
    change: Callable[[GGUFWriter], None], named: str, tmp_path: Path
) -> None:
    _, file = _file(tmp_path, "llama_2", "llama", change=change)
    with pytest.raises(ConfigError, match=named):
        open_gguf(file)


def test_a_file_that_is_no_usable_base_is_refused_by_name(tmp_path: Path) -> None:
    _, file = _file(tmp_path, "llama_2", "llama")
    with pytest.raises(ConfigError, match=r"agent\.context_length is 300, but the base knows 256 positions"):
        require_usable(_recipe(file, "agent.context_length=300"))
    (file.parent / "tokenizer.json").unlink()
    with pytest.raises(ConfigError, match=r"tokenizer\.json does not exist"):
        open_gguf(file)
    file.write_bytes(b"no weights")
    with pytest.raises(ConfigError, match="is not a GGUF file"):
        open_gguf(file)
    with pytest.raises(ConfigError, match="does not exist"):
        open_gguf(tmp_path / "none.gguf")
    other = GGUFWriter(str(file), "gemma2")
    other.write_header_to_file()
    other.write_kv_data_to_file()
    other.close()
    with pytest.raises(ConfigError, match="architecture gemma2"):
        open_gguf(file)
