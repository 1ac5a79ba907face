from __future__ import annotations

import shutil
from datetime import UTC, datetime
from itertools import product
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

from tests.support.influence_oracle import TRAIN, Setting, naive_parts
from tests.support.tiny_models import make_base, make_samples
from zigong.errors import ConfigError, DataError
from zigong.influence.capture import OpenAgent, open_agent, use_checkpoint
from zigong.influence.diagnostics import target_diagnostics
from zigong.influence.score import score_samples
from zigong.influence.target_sums import target_gradients
from zigong.influence.targets import TargetGradients, scorer_fingerprint
from zigong.recipe import Influence
from zigong.tokens.losses import sample_losses
from zigong.tokens.samples import Samples, batch_of
from zigong.training.checkpoints import CheckpointManifest, read_checkpoints


def _gradients(setting: Setting, settings: Influence) -> TargetGradients:
    return target_gradients(setting.agent, setting.targets, settings, business_timezone="UTC")


def _scores(setting: Setting, settings: Influence, samples: Samples | None = None) -> pa.Table:
    return score_samples(setting.agent, _gradients(setting, settings), samples or setting.samples, settings)


def _assert_equal(setting: Setting, settings: Influence) -> None:
    """Requires that every row equals the published formula to 1e-5."""
    table = _scores(setting, settings)
    assert table["sample_id"].to_pylist() == list(setting.samples.sample_id)
    expected = [naive_parts(setting, index, settings) for index in range(len(setting.samples))]
    assert any(found is not None for found in expected)
    for row, found in zip(table.to_pylist(), expected, strict=True):
        if found is None:
            assert (row["score"], row["loss"], row["parts"]) == (None, None, [])
            assert row["reason"]
        else:
            parts, scope = found
            size = np.abs(parts).max()
            np.testing.assert_allclose(row["parts"], parts, rtol=1e-5, atol=1e-5 * size)
            np.testing.assert_allclose(row["score"], sum(parts), rtol=1e-5, atol=1e-5 * size)
            assert (row["scope"], row["reason"]) == (scope, None)


@pytest.mark.parametrize(
    ("decay", "checkpoints", "pairs"),
    product(["checkpoint", "sample", "none"], ["all", "own"], ["later", "all"]),
)
def test_scores_equal_the_batch_of_one_autograd_loop(
    setting: Setting, decay: str, checkpoints: str, pairs: str
) -> None:
    given = {"gamma": 0.7, "decay": decay, "checkpoints": checkpoints, "pairs": pairs, "batch_tokens": 150}
    _assert_equal(setting, Influence.model_validate(given))


@pytest.mark.parametrize("decay", ["checkpoint", "sample"])
@pytest.mark.parametrize("checkpoints", ["all", "own"])
@pytest.mark.parametrize("batch_tokens", [40, 4096])
def test_scores_on_token_trees_equal_the_loop(
    setting: Setting, decay: str, checkpoints: str, batch_tokens: int
) -> None:
    given = {"engine": "trees", "gamma": 0.7, "decay": decay, "checkpoints": checkpoints, "batch_tokens": batch_tokens}
    _assert_equal(setting, Influence.model_validate({**given, "precondition": "adam" if decay == "sample" else "none"}))


@pytest.mark.parametrize(
    ("scope", "normalise", "precondition"),
    list(product(["population", "user"], ["dot", "cosine"], ["none", "adam"]))[1:],
)
@pytest.mark.parametrize(("decay", "checkpoints"), [("checkpoint", "all"), ("sample", "own"), ("sample", "all")])
def test_scopes_cosines_and_preconditioned_scores_equal_the_loop(
    plain: Setting, scope: str, normalise: str, precondition: str, decay: str, checkpoints: str
) -> None:
    given = {"scope": scope, "normalise": normalise, "precondition": precondition}
    _assert_equal(
        plain, Influence.model_validate({"decay": decay, "checkpoints": checkpoints, "batch_tokens": 150, **given})
    )


def test_with_user_scope_samples_use_their_own_tests_or_the_population(plain: Setting) -> None:
    scopes = _scores(plain, Influence(scope="user", pairs="all"))["scope"].to_pylist()
    targeted = set(plain.targets.user_id)
    strangers = make_samples(4, dates=TRAIN[:1])
    columns = {name: getattr(strangers, name) for name in strangers.__dataclass_fields__}
    unknown = Samples(**{**columns, "user_id": ("x1", "x2", "x3", "x4")})
    assert [scope == "user" for scope in scopes] == [user in targeted for user in plain.samples.user_id]
    assert set(_scores(plain, Influence(scope="user", pairs="all"), unknown)["scope"].to_pylist()) == {"population"}


def test_the_loss_is_that_of_the_last_participating_checkpoint(plain: Setting) -> None:
    table = _scores(plain, Influence(batch_tokens=100))
    use_checkpoint(plain.agent, 2)
    alone = [
        float(sample_losses(plain.agent.model, batch_of(plain.samples, np.array([i])))[0]) for i in range(len(table))
    ]
    np.testing.assert_allclose(table["loss"].to_pylist(), alone, rtol=1e-5)


@pytest.mark.parametrize("given", [{"scope": "user"}, {"normalise": "cosine"}, {"precondition": "adam"}])
def test_target_gradients_of_other_settings_are_rejected(plain: Setting, given: dict[str, str]) -> None:
    gradients = _gradients(plain, Influence())
    with pytest.raises(DataError, match="other settings"):
        score_samples(plain.agent, gradients, plain.samples, Influence.model_validate(given))


def test_missing_or_changed_second_moments_are_rejected_by_name(plain: Setting, tmp_path: Path) -> None:
    agent_folder = tmp_path / "agent"
    shutil.copytree(plain.manifest.folder, agent_folder)
    agent = open_agent(plain.base, read_checkpoints(agent_folder), torch_threads=1)
    file = agent_folder / "period_01" / "adam_second_moments.safetensors"
    adam = Influence(precondition="adam")
    (agent_folder / "period_00" / file.name).replace(file)
    with pytest.raises(ConfigError, match="period_00 has no second moments"):
        target_gradients(agent, plain.targets, adam, business_timezone="UTC")
    shutil.copy(file, agent_folder / "period_00" / file.name)
    with pytest.raises(DataError, match="differs from the manifest"):
        target_gradients(agent, plain.targets, adam, business_timezone="UTC")


def test_samples_without_eligible_tests_or_checkpoints_have_a_reason(plain: Setting) -> None:
    own = _scores(plain, Influence(checkpoints="own", pairs="all")).to_pylist()
    early = [row for row, day in zip(own, plain.samples.observation_date, strict=True) if day <= TRAIN[1]]
    assert {row["reason"] for row in early} == {"no checkpoint before the sample's period"}
    ripe_too_late = make_samples(6, dates=TRAIN, window_months=9)
    later = _scores(plain, Influence(), ripe_too_late)
    assert set(later["reason"].to_pylist()) == {"no target date at or after matured_at"}


@pytest.mark.parametrize("batch_tokens", [1, 60, 333, 100_000])
@pytest.mark.parametrize("given", [{}, {"scope": "user", "normalise": "cosine"}])
def test_scores_do_not_depend_on_batch_size_or_order(plain: Setting, given: dict[str, str], batch_tokens: int) -> None:
    reference = _scores(plain, Influence.model_validate(given))
    order = np.random.default_rng(batch_tokens).permutation(len(plain.samples))
    settings = Influence.model_validate({**given, "batch_tokens": batch_tokens})
    shuffled = _scores(plain, settings, plain.samples.take(order))
    expected = np.array(reference["score"].to_pylist())[order]
    np.testing.assert_allclose(shuffled["score"].to_pylist(), expected, rtol=1e-5, atol=1e-6 * np.abs(expected).max())


def test_a_test_is_later_by_the_midnight_of_the_business_time_zone(plain: Setting) -> None:
    noon = datetime(2023, 9, 1, 3, tzinfo=UTC)  # before midnight in New York, after it in Shanghai and in UTC
    columns = {name: getattr(plain.samples, name) for name in plain.samples.__dataclass_fields__}
    ripe = Samples(**{**columns, "matured_at": (noon,) * len(plain.samples)})
    counts = {}
    for zone in ("America/New_York", "UTC", "Asia/Shanghai"):
        gradients = target_gradients(plain.agent, plain.targets, Influence(), business_timezone=zone)
        counts[zone] = score_samples(plain.agent, gradients, ripe, Influence())["score"].null_count
    assert counts == {"America/New_York": 0, "UTC": len(ripe), "Asia/Shanghai": len(ripe)}


def test_gradients_of_another_agent_are_rejected(plain: Setting) -> None:
    gradients = _gradients(plain, Influence())
    reordered = CheckpointManifest(
        **{**vars(plain.manifest), "checkpoints": plain.manifest.checkpoints[::-1]}  # the same files in another order
    )
    other = OpenAgent(**{**vars(plain.agent), "manifest": reordered})
    with pytest.raises(DataError, match="another agent"):
        score_samples(other, gradients, plain.samples, Influence())


def test_a_base_model_that_the_agent_was_not_trained_on_is_rejected(plain: Setting, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="differs from the agent's base"):
        open_agent(make_base(tmp_path / "other", seed=9), plain.manifest, torch_threads=1)


def test_the_fingerprint_depends_on_targets_and_settings_but_not_on_batches(plain: Setting) -> None:
    ids = list(plain.targets.sample_id)
    reference = scorer_fingerprint(plain.manifest, Influence(), ids)
    assert reference == scorer_fingerprint(plain.manifest, Influence(batch_tokens=7), ids[::-1])
    assert reference != scorer_fingerprint(plain.manifest, Influence(gamma=0.8), ids)
    assert reference != scorer_fingerprint(plain.manifest, Influence(), ids[1:])


def test_diagnostics_are_the_cosines_of_the_naive_mean_gradients(plain: Setting) -> None:
    found = target_diagnostics(_gradients(plain, Influence()), plain.manifest)
    labels = torch.tensor(plain.targets.label).bool()
    for one, rows in zip(found, plain.target_gradients, strict=True):
        stacked = torch.stack(rows)
        expected = torch.cosine_similarity(stacked[labels].mean(0), stacked[~labels].mean(0), dim=0)
        assert one.class_cosine == pytest.approx(float(expected), rel=1e-4)
        assert one.half_cosine is not None
        assert -1 <= one.half_cosine <= 1


def test_scoring_without_targets_is_rejected(plain: Setting) -> None:
    with pytest.raises(DataError, match="no target samples"):
        target_gradients(plain.agent, plain.targets.take([]), Influence(), business_timezone="UTC")
