"""An independent TracSeq: PEFT's own loader, one sample at a time, all logits, fp64, the published formula."""

from __future__ import annotations

from datetime import UTC, date, datetime, time
from pathlib import Path

import torch
from peft import PeftModel
from safetensors.torch import load_file
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import AutoModelForCausalLM

from tests.support.tiny_models import make_agent_settings, make_base, make_samples
from zigong.influence.capture import open_agent
from zigong.recipe import Influence
from zigong.tokens.samples import Samples
from zigong.training.checkpoints import read_checkpoints
from zigong.training.trainer import train_agent

TRAIN = tuple(date(2023, month, 1) for month in range(1, 7))
TARGETS = (date(2023, 8, 1), date(2023, 9, 1))


class Setting:
    """One trained agent with its samples and targets, and the naive gradients of all of them."""

    def __init__(self, folder: Path, *, count_eos: bool) -> None:
        self.base = make_base(folder / "base")
        self.samples = make_samples(18, dates=TRAIN)
        self.targets = make_samples(9, seed=5, dates=TARGETS, prefix="z")
        settings = make_agent_settings(3, count_eos=count_eos)
        train_agent(self.base, self.samples, settings, seed=1, torch_threads=1, folder=folder / "agent", data={})
        self.manifest = read_checkpoints(folder / "agent")
        self.agent = open_agent(self.base, self.manifest, torch_threads=1)
        end = 2 if count_eos else None
        folders = [self.manifest.folder / item.adapter for item in self.manifest.checkpoints]
        self.sample_gradients = [naive_gradients(self.base, one, self.samples, end) for one in folders]
        self.target_gradients = [naive_gradients(self.base, one, self.targets, end) for one in folders]
        self.adam_factors = [adam_factors(self.base, one) for one in folders]


def naive_gradients(base: Path, adapter: Path, samples: Samples, end: int | None = None) -> list[Tensor]:
    """[N] flat gradients with respect to A and B of every layer, in the order of the model's parameters.

    Args:
        base: folder of the base model.
        adapter: folder of the adapter.
        samples: N samples.
        end: end token that bears loss after each answer; None: none does.
    """
    plain = AutoModelForCausalLM.from_pretrained(base)
    model = PeftModel.from_pretrained(plain, adapter, is_trainable=True)
    model.double().eval()
    weights = [weight for name, weight in model.named_parameters() if "lora_" in name]
    rows = []
    for prompt, answer in zip(samples.input_ids, samples.completion_ids, strict=True):
        ids = torch.tensor([*prompt, *answer, *([] if end is None else [end])]).long()
        logits = model(input_ids=ids[None]).logits[0, len(prompt) - 1 : -1]
        loss = cross_entropy(logits, ids[len(prompt) :])
        rows.append(torch.cat([part.flatten() for part in torch.autograd.grad(loss, weights)]))
    return rows


def adam_factors(base: Path, adapter: Path) -> Tensor:
    """1 / (sqrt(v) + eps), flat in the order of the model's parameters."""
    plain = AutoModelForCausalLM.from_pretrained(base)
    model = PeftModel.from_pretrained(plain, adapter, is_trainable=True)
    names = [name.replace(".default.", ".") for name, _ in model.named_parameters() if "lora_" in name]
    moments = load_file(adapter / "adam_second_moments.safetensors")
    assert moments.keys() == set(names)
    return torch.cat([(1 / (moments[name].double().sqrt() + 1e-8)).flatten() for name in names])


def months(first: date, second: date) -> int:
    return (second.year - first.year) * 12 + second.month - first.month


def naive_parts(setting: Setting, index: int, settings: Influence) -> tuple[list[float], str] | None:
    """Contribution of each checkpoint and scope, one test and one checkpoint at a time."""
    samples, targets, checkpoints = setting.samples, setting.targets, setting.manifest.checkpoints
    own_date = samples.observation_date[index]
    earlier = [i for i, item in enumerate(checkpoints) if item.last_observation_date < own_date]
    used = list(range(len(checkpoints))) if settings.checkpoints == "all" else earlier[-1:]
    everyone = [j for j, day in enumerate(targets.observation_date) if _counts(samples, index, day, settings)]
    own = [j for j in everyone if targets.user_id[j] == samples.user_id[index]]
    eligible, scope = (own, "user") if settings.scope == "user" and own else (everyone, "population")
    if not eligible or not used:
        return None
    parts = [0.0] * len(checkpoints)
    for i in used:
        factors = setting.adam_factors[i] if settings.precondition == "adam" else 1.0
        for j in eligible:
            since = own_date if settings.decay == "sample" else checkpoints[i].last_observation_date
            since = checkpoints[i].last_observation_date if settings.checkpoints == "own" else since
            age = months(since, targets.observation_date[j]) / 2  # six months in three periods
            decay = 1.0 if settings.decay == "none" else settings.gamma**age
            ours, theirs = setting.sample_gradients[i][index], setting.target_gradients[i][j] * factors
            size = ours.norm() * theirs.norm() if settings.normalise == "cosine" else 1.0
            parts[i] += decay * checkpoints[i].eta * float(ours @ theirs / size) / len(eligible)
    return parts, scope


def _counts(samples: Samples, index: int, test_date: date, settings: Influence) -> bool:
    return settings.pairs == "all" or datetime.combine(test_date, time(), UTC) >= samples.matured_at[index]
