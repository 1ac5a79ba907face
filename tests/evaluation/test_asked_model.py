"""A model is loaded only if every file equals the registered one, and only for its own question."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import pytest

from tests.support.tiny_models import LORA, TINY
from zigong.errors import ConfigError, DataError
from zigong.evaluation.answering import require_known_words
from zigong.evaluation.answers import answer_prompts
from zigong.evaluation.asked_model import AskedModel, ModelFolders, OpenedModel
from zigong.evaluation.horizons import horizon_matrix
from zigong.instructions.prompt_spec import PromptSpec
from zigong.recipe import Horizon, Instructions
from zigong.training.adapters import adapter_digest, load_adapted, new_adapter, save_adapter
from zigong.training.base import train_base
from zigong.training.tokenizer import train_tokenizer

PROMPTS = PromptSpec(settings=Instructions(), horizon=Horizon(), timezone="UTC", context_length=64)
WORDS = "start login order ~500 dpd30"
FILES = (
    ("base", "model.safetensors"),
    ("base", "config.json"),
    ("base", "tokenizer.json"),
    ("adapter", "adapter_model.safetensors"),
    ("adapter", "adapter_config.json"),
)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> ModelFolders:
    place = tmp_path_factory.mktemp("model")
    folders = ModelFolders(base=place / "base", adapter=place / "adapter")
    template = PROMPTS.template
    further = [template.ask(Horizon(window_months=months)) for months in (3, 12)]
    tokenizer = train_tokenizer([WORDS], [*PROMPTS.question_lines, *further, *template.choices])
    timelines = np.random.default_rng(1).integers(3, len(tokenizer), (20, 12)).tolist()
    train_base(timelines, tokenizer, TINY, seed=1, torch_threads=1, folder=folders.base)
    save_adapter(new_adapter(folders.base, LORA, seed=2), folders.adapter)
    return folders


@pytest.fixture
def folders(made: ModelFolders, tmp_path: Path) -> ModelFolders:
    """A copy that a test may change."""
    return ModelFolders(
        base=Path(shutil.copytree(made.base, tmp_path / "base")),
        adapter=Path(shutil.copytree(made.adapter, tmp_path / "adapter")),
    )


def truncated(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-1])


def changed(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)


@pytest.mark.parametrize("damage", [truncated, changed, Path.unlink])
@pytest.mark.parametrize(("folder", "name"), FILES)
def test_a_changed_truncated_or_missing_file_is_rejected_by_name_before_anything_is_loaded(
    folders: ModelFolders, folder: str, name: str, damage: Callable[[Path], None]
) -> None:
    asked = AskedModel.of(PROMPTS, folders)
    file = getattr(folders, folder) / name
    damage(file)
    digests = getattr(asked, folder).files
    with pytest.raises(DataError, match=f"{name}: expected SHA-256 {digests[name]}, found") as error:
        OpenedModel(asked, folders)
    assert str(file) in error.value.message


def test_the_digest_of_an_adapter_equals_the_one_in_the_model_id(made: ModelFolders) -> None:
    assert AskedModel.of(PROMPTS, made).adapter.digest == adapter_digest(made.adapter)


def test_a_model_whose_template_text_has_changed_is_rejected(made: ModelFolders) -> None:
    asked = AskedModel.of(PROMPTS, made)
    for former in (replace(asked, question=("Question: late? Answer:",)), replace(asked, choices=("Bad", "Good"))):
        with pytest.raises(ConfigError, match=r"template behavior_card@1 \(en\): the model was asked"):
            OpenedModel(former, made)


def test_everything_an_answer_depends_on_changes_the_digest(folders: ModelFolders) -> None:
    asked = AskedModel.of(PROMPTS, folders)
    others = [replace(asked, prompts=replace(PROMPTS, timezone="Asia/Shanghai")), replace(asked, choices=("No", "Yes"))]
    for folder, name in FILES:
        changed(getattr(folders, folder) / name)
        others.append(AskedModel.of(PROMPTS, folders))
    assert len({asked.digest, *(other.digest for other in others)}) == 1 + len(others)


@pytest.mark.parametrize("engine", ["samples", "trees"])
def test_prompts_that_fit_are_answered_as_if_alone_and_the_others_have_null_answers(
    made: ModelFolders, engine: str
) -> None:
    opened = OpenedModel(AskedModel.of(PROMPTS, made), made)
    ids = [opened.encoder.history(["start login"]), None, opened.encoder.history(["start order ~500", "start login"])]
    prompts = pa.table(
        {"sample_id": ["a", "b", "c"], "user_id": ["u", "u", "u"], "input_ids": pa.array(ids, pa.list_(pa.int32()))}
    )
    found = opened.answers(prompts, engine=engine, batch_tokens=100).sort_by("sample_id")  # type: ignore[arg-type]
    choices = [opened.encoder.completion(choice) for choice in ("Yes", "No")]
    model = load_adapted(made.base, made.adapter).get_base_model()
    for number in (0, 2):
        (alone,) = answer_prompts(model, ["x"], [np.array(ids[number], np.int32)], choices, batch_tokens=100)["p_bad"]
        assert found["p_bad"][number].as_py() == pytest.approx(alone.as_py(), rel=1e-5)
    assert found["sample_id"].to_pylist() == ["a", "b", "c"]
    assert [found[name][1].as_py() for name in ("p_bad", "answer", "miss")] == [None, None, None]


@pytest.mark.parametrize("engine", ["samples", "trees"])
def test_further_horizons_are_answered_as_if_asked_alone_and_leave_the_main_answer_as_it_is(
    made: ModelFolders, engine: Literal["samples", "trees"]
) -> None:
    opened = OpenedModel(AskedModel.of(PROMPTS, made), made)
    horizons = [Horizon(window_months=3), Horizon(window_months=12)]
    question = opened.encoder.branch(PROMPTS.question_lines)
    known = [opened.encoder.history(["start login"]), opened.encoder.history(["start order ~500", "start login"])]
    ids = [known[0] + question, None, known[1] + question]
    prompts = pa.table(
        {"sample_id": ["a", "b", "c"], "user_id": ["u", "u", "v"], "input_ids": pa.array(ids, pa.list_(pa.int32()))}
    )
    alone = opened.answers(prompts, engine=engine, batch_tokens=100)
    found = opened.answers(prompts, engine=engine, batch_tokens=100, further=horizons).sort_by("sample_id")
    assert found["p_bad"].to_numpy() == pytest.approx(alone.sort_by("sample_id")["p_bad"].to_numpy(), nan_ok=True)
    p_bad = horizon_matrix(found["horizons"], horizons)
    choices = [opened.encoder.completion(choice) for choice in ("Yes", "No")]
    model = load_adapted(made.base, made.adapter).get_base_model()
    for row, history in zip((0, 2), known, strict=True):
        for place, horizon in enumerate(horizons):
            asked = np.array(history + opened.encoder.branch([PROMPTS.template.ask(horizon)]), np.int32)
            (expected,) = answer_prompts(model, ["x"], [asked], choices, batch_tokens=100)["p_bad"]
            assert p_bad[row, place] == pytest.approx(expected.as_py(), rel=1e-5)
    assert len({*p_bad[[0, 2]].ravel(), *found["p_bad"].drop_null().to_pylist()}) == 6
    assert found["horizons"][1].as_py() is None
    assert "horizons" not in alone.column_names


def test_event_types_and_languages_unknown_to_the_tokenizer_are_rejected_by_name(made: ModelFolders) -> None:
    asked = AskedModel.of(PROMPTS, made)
    encoder = asked.encoder(made)
    require_known_words("m", asked, encoder, ["login", "order"])
    with pytest.raises(DataError, match=r"model m cannot answer: .*event types bnpl, loan; it knows login"):
        require_known_words("m", asked, encoder, ["login", "loan", "bnpl"])
    chinese = AskedModel.of(replace(PROMPTS, settings=Instructions(language="zh")), made)
    with pytest.raises(DataError, match="in the language 'zh'"):
        require_known_words("m", chinese, encoder, ["login"])
