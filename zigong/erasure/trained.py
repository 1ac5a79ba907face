"""What an erasure reads of a run: which models it left, and what they learned from; of runs of any version."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from zigong.runs.run import Run


@dataclass(frozen=True, kw_only=True)
class TrainedModel:
    """A model and the data of its run.

    Attributes:
        read_before: ISO date before which events were known that its own base could read; None: unknown, so all.
        own_base: whether the run trained a base.
        every_split: whether it learned from all splits of the dataset, as a refit does, or from ``train``.
    """

    run_id: str
    model_id: str
    dataset_id: str
    read_before: str | None
    own_base: bool
    every_split: bool


def trained_models(run: Run) -> tuple[TrainedModel, ...]:
    """The models that a run left: its final model, the card that contains it, and their refit.

    Manifest and recipe are read as JSON: what another version wrote has other fields, of which these four are looked
    for by name. A recipe that lacks them counts as one that trained its own base on all events.
    """
    manifest = _content(run, "manifest.json")
    values = manifest.get("values") or manifest.get("facts") or {}
    models = dict.fromkeys(name for name in _named(values, "model_id") if isinstance(name, str))
    dataset = _first(values, "dataset_id")
    if not isinstance(dataset, str):
        return ()
    recipe = _content(run, "recipe.json")
    refit = _first(_first(values, "RefittedModel"), "model_id")
    base, last = recipe.get("base"), _first(_first(recipe.get("observations"), "train"), "last")
    return tuple(
        TrainedModel(
            run_id=run.run_id,
            model_id=model,
            dataset_id=dataset,
            read_before=last if isinstance(last, str) else None,
            own_base=not isinstance(base, dict) or base.get("tiny") is not None,
            every_split=model == refit,
        )
        for model in models
    )


def _content(run: Run, name: str) -> dict[str, Any]:
    """The JSON object in a file of a run; empty if it cannot be read."""
    try:
        content = json.loads((run.folder / name).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _first(content: object, name: str) -> object:
    return next(_named(content, name), None)


def _named(content: object, name: str) -> Iterator[object]:
    """The values under a name at any depth."""
    if isinstance(content, dict):
        if name in content:
            yield content[name]
        for part in content.values():
            yield from _named(part, name)
