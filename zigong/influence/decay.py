"""Selects the tests and checkpoints that a training sample is scored with, and their weights."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime

from zigong.errors import DataError
from zigong.recipe import Influence
from zigong.training.checkpoints import CheckpointManifest, months_between

NO_LATER_TEST = "no target date at or after matured_at"
NO_EARLIER_CHECKPOINT = "no checkpoint before the sample's period"


@dataclass(frozen=True, kw_only=True)
class Bucket:
    """Common properties of samples that can be scored with one vector per checkpoint.

    Attributes:
        first_date: index of the first eligible test date; all later ones are eligible too.
        checkpoints: indices of the participating checkpoints.
    """

    first_date: int
    checkpoints: tuple[int, ...]


def periods_between(earlier: date, later: date, months_per_period: float) -> float:
    """T - t as a number of periods: calendar months between the dates, divided by the months of a period.

    Days are ignored, so two dates of one month have distance 0; the result can be fractional if a period has several
    months.

    Raises:
        DataError: ``later`` is before ``earlier``, so the decay would amplify.
    """
    if later < earlier:
        raise DataError(
            f"a test at {later} is before {earlier}: the decay needs an age of at least 0",
            action="score later targets, or set influence.decay: none",
        )
    return months_between(earlier, later) / months_per_period


def bucket_of(
    observation_date: date,
    matured_at: datetime,
    target_moments: Sequence[datetime],
    manifest: CheckpointManifest,
    settings: Influence,
) -> Bucket | str:
    """The bucket of a training sample, or the reason why it has none.

    Args:
        observation_date: observation date of the training sample.
        matured_at: moment when the training sample's label matured.
        target_moments: observation moments of the tests, sorted.
        manifest: manifest of the agent. Period p has the dates after t_(p-1) up to t_p.
        settings: ``pairs`` later: tests at or after ``matured_at``; all: every test. ``checkpoints`` all: every one;
            own: only the last one before the sample's own period.
    """
    first_date = bisect_left(target_moments, matured_at) if settings.pairs == "later" else 0
    if first_date == len(target_moments):
        return NO_LATER_TEST
    if settings.checkpoints == "all":
        return Bucket(first_date=first_date, checkpoints=tuple(range(len(manifest.checkpoints))))
    own_period = bisect_left([item.last_observation_date for item in manifest.checkpoints], observation_date)
    if own_period == 0:
        return NO_EARLIER_CHECKPOINT
    return Bucket(first_date=first_date, checkpoints=(own_period - 1,))


def target_weight(target_date: date, checkpoint: int, manifest: CheckpointManifest, settings: Influence) -> float:
    """eta_i times the decay of one test date at one checkpoint, without the factor of :func:`sample_weight`.

    With ``decay: sample`` the age T - t of the sample is (T - t_i) + (t_i - t), so the sample's factor can be separated
    and the tests still fold into one vector.
    """
    item = manifest.checkpoints[checkpoint]
    if settings.decay == "none":
        return item.eta
    if settings.decay == "sample" and settings.checkpoints == "all":
        origin = manifest.checkpoints[-1].last_observation_date
        return float(item.eta * settings.gamma ** (months_between(origin, target_date) / manifest.months_per_period))
    age = periods_between(item.last_observation_date, target_date, manifest.months_per_period)
    return float(item.eta * settings.gamma**age)


def sample_weight(
    observation_date: date, first_target: date, manifest: CheckpointManifest, settings: Influence
) -> float:
    """The factor of the decay that depends on the sample's date; 1 unless ``decay: sample`` uses all checkpoints.

    With ``checkpoints: own`` the sample's time is that of its only checkpoint, so both decays are equal.

    Raises:
        DataError: an eligible test of the sample is before it.
    """
    if settings.decay != "sample" or settings.checkpoints == "own":
        return 1.0
    periods_between(observation_date, first_target, manifest.months_per_period)
    origin = manifest.checkpoints[-1].last_observation_date
    return float(settings.gamma ** (months_between(observation_date, origin) / manifest.months_per_period))
