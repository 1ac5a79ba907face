"""A released Behavior Card: one value that holds everything its answers depend on, and its lineage.

``serving.json`` is this value in JSON, with a schema version. The registry stores where the files are.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import date
from typing import Any

from pydantic import TypeAdapter, ValidationError

from zigong.errors import ConfigError, DataError
from zigong.evaluation.asked_model import AskedModel
from zigong.evaluation.calibration import Calibration
from zigong.evaluation.fusion import Added
from zigong.evaluation.horizons import AskedHorizon
from zigong.recipe import Card, Split

SCHEMA_VERSION = 5  # 4 had no bins of numbers and nothing further, 3 no trained_until, 2 no fusion, 1 no split and unit
_VERSION = "schema_version"
# What older versions that can be read lack, besides the bins of numbers.
_ADDED: dict[int, dict[str, Any]] = {3: {"trained_until": None, "further": []}, 4: {"further": []}}


@dataclass(frozen=True, kw_only=True)
class Model:
    """A Behavior Card that passed the gate.

    Attributes:
        model_id: its name in every table; see ``training.adapters.model_name``.
        run_id: ZiGong run that released it.
        dataset_id: dataset on which it was trained, calibrated and checked by the gate.
        mix_id: training mix.
        recipe_digest: recipe of the run.
        split: how its dataset was divided, which determines the clients it has seen.
        parents: the model whose release it repeats on more samples; empty if the gate judged the model itself.
        trained_until: newest observation date of its training samples; None: registered before this was recorded.
        asked: digests of its files, the question, and how prompts are rendered.
        fusion: trees with weights or readout, or the tower, that it adds to the language model; None: that alone is
            the card.
        further: horizons that it is also asked about; see ``evaluation.horizons``.
        calibration: maps p_bad to the probability that is scaled to points.
        threshold: calibrated probability at or above which a client is classified as bad; chosen on ``select``.
        card: scaling of the points.
    """

    model_id: str
    run_id: str
    dataset_id: str
    mix_id: str
    recipe_digest: str
    split: Split
    parents: tuple[str, ...] = ()
    trained_until: date | None = None
    asked: AskedModel
    fusion: Added | None = None
    further: tuple[AskedHorizon, ...] = ()
    calibration: Calibration
    threshold: float
    card: Card


_MODEL = TypeAdapter(Model)


def model_as_text(model: Model) -> str:
    """The content of serving.json."""
    content = {_VERSION: SCHEMA_VERSION, **_MODEL.dump_python(model, mode="json")}
    return json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def model_from_text(text: str, *, origin: str) -> Model:
    """Reads serving.json, which must contain every field of the value and nothing else.

    Args:
        origin: name of the file in errors.

    Raises:
        DataError: another version of ZiGong wrote it, or it does not contain the complete value.
    """
    content = _parsed(text, origin)
    found = content.pop(_VERSION, None)
    if isinstance(found, int) and found in _ADDED:
        found, content = SCHEMA_VERSION, _with_bins({**_ADDED[found], **content}, origin)
    if found != SCHEMA_VERSION:
        raise DataError(
            f"{origin}: expected schema version {SCHEMA_VERSION}, found {found or 'none'}: another version of ZiGong "
            "registered this model, and this version cannot determine its question",
            action="set registry.model_name to a new name and release a model into it, or read this one with the "
            "version that wrote it (docs/operations.md, The champion)",
        )
    try:
        model = _MODEL.validate_python(content)
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors()[:3])
        raise _damaged(origin, wrong) from error
    if _MODEL.dump_python(model, mode="json") != content:
        raise _damaged(origin, "keys are missing, unknown or of another type")
    return model


def _with_bins(content: dict[str, Any], origin: str) -> dict[str, Any]:
    """A value of version 4 in this version, where the prompts name the bins of their numbers.

    Raises:
        DataError: its text has dates, which were single words and are several now.
    """
    try:
        prompts = content["asked"]["prompts"]
        time = prompts["settings"]["time"]
    except (KeyError, TypeError) as error:
        raise _damaged(origin, "asked.prompts.settings.time is missing") from error
    if time != "gap":
        raise DataError(
            f"{origin}: this model reads dates as single words (instructions.time: {time}), and this version of ZiGong "
            "writes a date in several words",
            action="release a model again into another registry.model_name",
        )
    return {**content, "asked": {**content["asked"], "prompts": {"numbers": None, **prompts}}}


def require_unseen(model: Model, split: Split, *, held_out_from: date) -> None:
    """Checks that a model was not trained on what a split holds out.

    Splits by hash hold the same clients out only under one seed and unit, and a smaller share holds out fewer of them.
    Splits by time hold dates out, and all models know the clients of earlier dates.

    Args:
        model: the model.
        split: how a recipe divides its samples.
        held_out_from: first observation date of the recipe's final split.

    Raises:
        ConfigError: held-out samples, or other samples of their clients, may have trained the model.
    """
    ours, theirs = split, model.split
    if ours.by == "time":
        _require_earlier(model, held_out_from)
        return
    same = (ours.by, ours.unit, ours.seed) == (theirs.by, theirs.unit, theirs.seed)
    if same and ours.test_share <= theirs.test_share:
        return
    raise ConfigError(
        f"model {model.model_id} was trained under {_described(theirs)}, this recipe divides by {_described(ours)}: "
        "clients that this recipe holds out may have trained the model",
        action=f"use --set split.seed={theirs.seed} and the other settings of the model's split, or release into "
        "another registry.model_name",
    )


def _require_earlier(model: Model, held_out_from: date) -> None:
    if model.trained_until is not None and model.trained_until >= held_out_from:
        raise ConfigError(
            f"model {model.model_id} was trained on samples until {model.trained_until}, this recipe holds out samples "
            f"from {held_out_from} on: the comparison would favour the model",
            action="move the dates of the recipe on, or release into another registry.model_name",
        )


def _described(split: Split) -> str:
    return f"split.by={split.by}, unit={split.unit}, seed={split.seed}, test_share={split.test_share:g}"


def _parsed(text: str, origin: str) -> dict[str, Any]:
    try:
        content = json.loads(text)
    except json.JSONDecodeError as error:
        raise _damaged(origin, str(error)) from error
    if not isinstance(content, dict):
        raise _damaged(origin, f"expected an object, found {type(content).__name__}")
    return content


def _damaged(origin: str, wrong: str) -> DataError:
    return DataError(
        f"{origin} does not contain a model of schema version {SCHEMA_VERSION}: {wrong}",
        action="restore the file from its backup, or release a model again",
    )
