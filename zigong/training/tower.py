"""The tower of a joint model: what baseline features and a language model's last state add to its log-odds.

Features are words: each column of the inputs has its own, which are embedded and summed. Trained towers are stored as
safetensors and JSON: nothing is pickled.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.functional import gelu

from zigong.errors import DataError
from zigong.files.atomic import write_json
from zigong.recipe import JointTraining
from zigong.tokens.answer_head import AnswerHead
from zigong.tokens.samples import Samples

TOWER, COLUMNS = "tower.safetensors", "tower.json"
TOWER_FILES = (TOWER, COLUMNS)
SMALL = 0.01
Words = npt.NDArray[np.int64]


class Tower(nn.Module):
    """Embedded features beside the normalised state, one hidden layer, one output, which is 0 before the training."""

    def __init__(self, hidden_size: int, sizes: Sequence[int], settings: JointTraining) -> None:
        """Draws the weights.

        Args:
            hidden_size: H, width of the language model.
            sizes: [C] number of words of each column of the inputs.
            settings: recipe section ``card.joint``.
        """
        super().__init__()
        self.hidden_size, self.sizes, self.settings = hidden_size, tuple(sizes), settings
        width = settings.width
        self.embedding = nn.EmbeddingBag(sum(sizes), width, mode="sum")
        nn.init.normal_(self.embedding.weight, std=SMALL)  # larger ones tell samples apart before they learn anything
        self.of_state = nn.Sequential(nn.LayerNorm(hidden_size), nn.Linear(hidden_size, width))
        self.dropout = nn.Dropout(settings.dropout)
        self.both = nn.Linear(2 * width, width)
        self.output = nn.Linear(width, 1)
        nn.init.zeros_(self.output.weight)
        nn.init.zeros_(self.output.bias)
        self.starts = torch.tensor([0, *np.cumsum(sizes)[:-1].tolist()])

    def forward(self, hidden: Tensor, inputs: Tensor) -> Tensor:
        """What is added to the log-odds of bad.

        Args:
            hidden: [n, H] last hidden states at the answer cue.
            inputs: [n, C] word of each column.

        Returns:
            [n].
        """
        embedded = self.embedding(inputs + self.starts.to(inputs.device)) / math.sqrt(len(self.sizes))
        parts = torch.cat([embedded, self.of_state(hidden.to(embedded))], dim=1)
        added: Tensor = self.output(self.dropout(gelu(self.both(self.dropout(parts)))))[:, 0]
        return added

    def parameter_group(self) -> dict[str, Any]:
        """Its parameters for an optimiser, with their weight decay and their multiple of the learning rate."""
        return {
            "params": list(self.parameters()),
            "weight_decay": self.settings.weight_decay,
            "rate": self.settings.rate,
        }


@dataclass(frozen=True, kw_only=True, eq=False)
class TowerTraining:
    """What a joint training adds to that of an adapter.

    Attributes:
        settings: recipe section ``card.joint``.
        rows: row of the inputs of each sample of the main question, by sample_id.
        inputs: [R, C] word of each column.
        sizes: [C] number of words of each column.
        choices: token ids of the answers, the bad one first.
        columns: description of the inputs, as JSON stored with the weights.
    """

    settings: JointTraining
    rows: Mapping[str, int]
    inputs: Words
    sizes: tuple[int, ...]
    choices: tuple[int, int]
    columns: Mapping[str, Any]

    def new_tower(self, hidden_size: int, *, seed: int) -> Tower:
        """A fresh tower, in training mode."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return Tower(hidden_size, self.sizes, self.settings)

    def head(self, tower: Tower, samples: Samples) -> AnswerHead:
        """The tower as a head of samples, in their order; those of further questions are not asked.

        Raises:
            DataError: no sample has inputs, or one that has is answered by neither choice.
        """
        rows = np.fromiter((self.rows.get(key, -1) for key in samples.sample_id), dtype=np.int64, count=len(samples))
        asked = rows >= 0
        firsts = np.fromiter((ids[0] for ids in samples.completion_ids), dtype=np.int64, count=len(samples))
        wrong = np.flatnonzero(asked & ~np.isin(firsts, self.choices))
        if len(wrong) or not asked.any():
            found = f"sample {samples.sample_id[wrong[0]]} answered by {firsts[wrong[0]]}" if len(wrong) else "none"
            raise DataError(
                f"card.head: joint: expected samples with features, answered by {self.choices}, found {found}",
                action="train it on samples of the main question, encoded by the same tokenizer",
            )
        bad, good = self.choices
        return AnswerHead(tower=tower, inputs=self.inputs[rows], asked=asked, bad=bad, good=good)


def save_tower(tower: Tower, columns: Mapping[str, Any], folder: Path) -> None:
    """Writes TOWER_FILES into an existing folder."""
    weights = {name: item.detach().contiguous() for name, item in tower.state_dict().items()}
    save_file(weights, folder / TOWER, metadata={"format": "pt"})
    sizes = {"hidden_size": tower.hidden_size, "sizes": list(tower.sizes)}
    write_json(
        folder / COLUMNS, {**sizes, "settings": tower.settings.model_dump(mode="json"), "columns": dict(columns)}
    )


def load_tower(folder: Path) -> tuple[Tower, dict[str, Any]]:
    """The tower that :func:`save_tower` wrote, without dropout, and its columns."""
    content = json.loads((folder / COLUMNS).read_text(encoding="utf-8"))
    tower = Tower(content["hidden_size"], content["sizes"], JointTraining.model_validate(content["settings"]))
    tower.load_state_dict(load_file(folder / TOWER))
    return tower.eval().requires_grad_(False), content["columns"]
