"""Several processes train one adapter, and a killed training goes on where it was."""

from __future__ import annotations

from datetime import date
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import distributed

from tests.support.mapped import mapped
from tests.support.tiny_models import LORA, make_agent_settings, make_base, make_samples
from zigong.recipe import AgentTraining, FinalTraining
from zigong.tokens.samples import Samples
from zigong.training.adapters import adapter_digest, new_adapter, read_adapter
from zigong.training.checkpoints import CheckpointManifest, checkpoints_digest, read_checkpoints
from zigong.training.placement import placed
from zigong.training.snapshots import STATE, Snapshots
from zigong.training.team import Team
from zigong.training.trainer import train_adapter, train_agent

MONTHS = tuple(date(2023, month, 1) for month in range(1, 4))


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_base(tmp_path_factory.mktemp("team") / "base")


def _settings(**changes: object) -> FinalTraining:
    known = {"lora": LORA, "learning_rate": 0.02, "warmup_steps": 0, "batch_size": 8, "context_length": 64}
    return FinalTraining.model_validate({**known, **changes})


def _of_users(count: int, users: int) -> Samples:
    """Samples of some users, where each prompt of a user begins with the previous one."""
    samples = make_samples(count, dates=MONTHS)
    columns = {name: getattr(samples, name) for name in samples.__dataclass_fields__}
    prompts = [np.concatenate(samples.input_ids[index % users : index + 1 : users])[:40] for index in range(count)]
    owners = tuple(f"user {index % users}" for index in range(count))
    return Samples(**{**columns, "input_ids": tuple(prompts), "user_id": owners})


ENGINES = ("samples", "trees")


def _in_team(engine: str) -> FinalTraining:
    return _settings(engine=engine, max_grad_norm=0.5, next_event_weight=0.1)


def _member(number: int, size: int, place: Path, base: Path) -> None:
    rendezvous = f"file://{place / 'rendezvous'}"
    distributed.init_process_group("gloo", init_method=rendezvous, rank=number, world_size=size)
    for engine in ENGINES:
        folder = place / f"{engine} of team"
        train_adapter(base, _of_users(36, 5), _in_team(engine), seed=3, torch_threads=1, folder=folder)
        sharded = _in_team(engine).model_copy(update={"gradient_checkpointing": True})
        folder = place / f"{engine} of sharded team"
        train_adapter(base, _of_users(36, 5), sharded, seed=3, torch_threads=1, folder=folder, sharded=True)
    model = new_adapter(base, LORA, seed=3).get_base_model()
    frozen = [item for item in model.model.layers.parameters() if not item.requires_grad]
    whole = sum(item.numel() for item in frozen)
    placed(model, _settings(), Team.present(sharded=True))
    parts = [item for item in model.model.layers.parameters() if not item.requires_grad]
    (place / f"share {number}").write_text(str(sum(item.to_local().numel() for item in parts) / whole))
    distributed.destroy_process_group()


def test_two_processes_train_the_adapter_that_one_trains(base: Path, tmp_path: Path) -> None:
    started = get_context("spawn")
    members = [started.Process(target=_member, args=(number, 2, tmp_path, base)) for number in range(2)]
    for member in members:
        member.start()
    for engine in ENGINES:
        samples, settings, folder = _of_users(36, 5), _in_team(engine), tmp_path / engine
        assert train_adapter(base, samples, settings, seed=3, torch_threads=1, folder=folder).steps > 1
    for member in members:
        member.join()
        assert member.exitcode == 0
    for engine in ENGINES:
        expected = read_adapter(tmp_path / engine, digest=None)
        for team in ("team", "sharded team"):
            got = read_adapter(tmp_path / f"{engine} of {team}", digest=None)
            assert got.keys() == expected.keys()
            for name, tensor in expected.items():
                torch.testing.assert_close(got[name], tensor, rtol=0, atol=1e-5)
    shares = [float((tmp_path / f"share {number}").read_text()) for number in range(2)]
    assert shares == pytest.approx([0.5, 0.5], abs=0.01)


@pytest.mark.parametrize("engine", ENGINES)
def test_samples_mapped_from_a_file_train_the_same_bits(base: Path, tmp_path: Path, engine: str) -> None:
    samples = _of_users(30, 2)
    held = {"memory": samples, "file": mapped(samples, tmp_path / "samples.arrow", rows=8)}
    for name, one in held.items():
        train_adapter(base, one, _in_team(engine), seed=3, torch_threads=1, folder=tmp_path / name)
        settings = make_agent_settings(2, engine=engine)
        train_agent(base, one, settings, seed=1, torch_threads=1, folder=tmp_path / f"agent of {name}", data={})
    assert adapter_digest(tmp_path / "memory") == adapter_digest(tmp_path / "file")
    assert checkpoints_digest(tmp_path / "agent of memory") == checkpoints_digest(tmp_path / "agent of file")


@pytest.mark.parametrize("size", [1, 2, 5])
def test_the_processes_share_the_units_of_a_step_by_tokens(size: int) -> None:
    generator = np.random.default_rng(size)
    units, lengths = generator.permutation(40), generator.integers(1, 100, 40)
    shares = [Team(number=number, size=size).share(units, lengths) for number in range(size)]
    assert sorted(np.concatenate(shares)) == sorted(units)
    of_unit = dict(zip(units.tolist(), lengths.tolist(), strict=True))
    loads = [sum(of_unit[unit] for unit in share.tolist()) for share in shares]
    assert max(loads) - min(loads) <= 100


class _Killed(BaseException):
    pass


def _killed_after(step: int) -> Any:
    def progress(done: int, _steps: int, _loss: float) -> None:
        if done == step:
            raise _Killed

    return progress


DROPOUT = LORA.model_copy(update={"dropout": 0.3})


@pytest.mark.parametrize("lora", [DROPOUT, None], ids=["adapter", "all weights"])
def test_a_killed_training_goes_on_to_the_same_bits(base: Path, tmp_path: Path, lora: Any) -> None:
    settings, samples = _settings(lora=lora, epochs=3), make_samples(40)
    often = Snapshots(folder=tmp_path / "snapshots", every_s=0)

    def train(name: str, **others: Any) -> None:
        train_adapter(base, samples, settings, seed=3, torch_threads=1, folder=tmp_path / name, **others)

    train("undisturbed")
    seen: list[int] = []
    for step in (4, 9):
        with pytest.raises(_Killed):
            train("resumed", snapshots=often, progress=_killed_after(step))
    train("resumed", snapshots=often, progress=lambda done, *_: seen.append(done))
    assert seen[0] == 10
    expected, got = (read_adapter(tmp_path / name, digest=None) for name in ("undisturbed", "resumed"))
    assert all(torch.equal(got[name], tensor) for name, tensor in expected.items())
    assert got.keys() == expected.keys()


def test_a_snapshot_of_another_training_is_not_used(base: Path, tmp_path: Path) -> None:
    often, seen = Snapshots(folder=tmp_path / "snapshots", every_s=0), list[int]()
    with pytest.raises(_Killed):
        train_adapter(
            base, make_samples(40), _settings(), seed=3, torch_threads=1, folder=tmp_path / "a", snapshots=often,
            progress=_killed_after(4),
        )  # fmt: skip
    assert (often.folder / STATE).is_file()
    train_adapter(
        base, make_samples(40), _settings(), seed=4, torch_threads=1, folder=tmp_path / "b", snapshots=often,
        progress=lambda done, *_: seen.append(done),
    )  # fmt: skip
    assert seen[0] == 1


@pytest.mark.parametrize("step", [2, 3, 4, 7])
def test_a_killed_agent_keeps_the_checkpoints_of_its_finished_periods(base: Path, tmp_path: Path, step: int) -> None:
    settings: AgentTraining = make_agent_settings(3)
    samples = make_samples(60, dates=MONTHS)
    often = Snapshots(folder=tmp_path / "snapshots", every_s=0)

    def train(name: str, **others: Any) -> CheckpointManifest:
        return train_agent(
            base, samples, settings, seed=3, torch_threads=1, folder=tmp_path / name, data={}, **others
        )  # fmt: skip

    expected = train("undisturbed")
    with pytest.raises(_Killed):
        train("resumed", snapshots=often, progress=_killed_after(step))
    got = train("resumed", snapshots=often)
    assert got.checkpoints == expected.checkpoints
    assert train("again", snapshots=often).checkpoints == expected.checkpoints
    assert read_checkpoints(tmp_path / "resumed").checkpoints == expected.checkpoints
