"""Baselines without a language model, from a constant to boosted trees, on the same samples."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import lightgbm as lgb
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.dataset as ds
from numpy.typing import NDArray
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from zigong.dataset.samples import of_task
from zigong.errors import DataError
from zigong.evaluation.features import OTHER, SEQUENCE_COLUMNS, baseline_features
from zigong.evaluation.member_sequences import sequences_of_members
from zigong.instructions.tasks import main_task
from zigong.recipe.source import source_mapping
from zigong.runs.job import Job

Floats = NDArray[np.float64]
Predictor = Callable[[pd.DataFrame], Floats]  # features -> p_bad, shape [rows]

_STATUS, _PROFILE = "status_lag_", "profile_"
_ARREARS_STEP_DAYS = 30
_TREES = 200
_TREE_PARAMETERS: dict[str, object] = {
    "objective": "binary",
    "learning_rate": 0.03,
    "num_leaves": 31,
    "min_data_in_leaf": 40,
    "feature_fraction": 0.8,
    "bagging_fraction": 0.8,
    "bagging_freq": 1,
    "lambda_l2": 1.0,
    "cat_smooth": 20.0,
    "deterministic": True,
    "force_row_wise": True,
    "num_threads": 1,  # two threads busy-wait for each other on a loaded machine and take forty times as long
    "verbosity": -1,
}


@dataclass(frozen=True, kw_only=True)
class FeatureSpace:
    """Columns and categories of the training samples; features of other splits are converted to them."""

    numbers: tuple[str, ...]
    words: dict[str, tuple[str, ...]]  # column -> categories


@dataclass(frozen=True, kw_only=True)
class Baselines:
    """Every baseline on the held-out members.

    Attributes:
        p_bad: probabilities by name; shape [held-out members] each.
        train: the members that they were fitted on.
        train_features: features of these.
        features: features of the held-out members, in their order.
    """

    p_bad: dict[str, Floats]
    train: pa.Table
    train_features: pd.DataFrame
    features: pd.DataFrame


def baselines_of(job: Job, held_out: pa.Table) -> Baselines:
    """Answers of every baseline to held-out members, fitted on the run's train members of the main question.

    Args:
        job: the job that reads the tables.
        held_out: members of the run's dataset.
    """
    recipe = job.recipe
    train = of_task(job.sample_source().members(["train"]), main_task(recipe))
    members = pa.concat_tables([train, held_out])
    ours = (ds.field("population") == job.population) & ds.field("observation_date").isin(
        members["observation_date"].unique()
    )
    columns = ["user_id", "loan_id", "observation_date", *SEQUENCE_COLUMNS]
    sequences = sequences_of_members(job.arrow("user_sequences", columns, where=ours), members)
    outcomes, currency = source_mapping(recipe).outcome_events, recipe.instructions.currency
    features = baseline_features(sequences, outcomes, recipe.business_timezone, currency)
    of_train, of_held_out = features.iloc[: len(train)], features.iloc[len(train) :]
    fitted = fit_baselines(of_train, train["label"].to_numpy(), recipe.seed)
    p_bad = {name: predict(of_held_out) for name, predict in fitted.items()}
    return Baselines(p_bad=p_bad, train=train, train_features=of_train, features=of_held_out)


def fit_baselines(features: pd.DataFrame, labels: NDArray[np.integer], seed: int) -> dict[str, Predictor]:
    """Fits every baseline on the training samples.

    ``majority`` is the bad rate; ``last_status`` the bad rate by last status and 30-day band of arrears; ``logistic``
    uses one-hot status lags and the numeric features; the two ``lightgbm`` models are trained with and without the
    profile. Nothing is tuned: the number of trees and the seed are fixed, without early stopping.

    Args:
        features: output of baseline_features; shape [samples, columns].
        labels: 1 = bad; shape [samples].
        seed: seed of the column and row sampling of the trees.

    Returns:
        One predictor per name above; each maps features of any split to p_bad.

    Raises:
        DataError: labels and features differ in number, or labels contain only one class.
    """
    bad = np.asarray(labels) == 1
    if len(bad) != len(features) or bad.all() or not bad.any():
        raise DataError(
            f"expected both classes, one label per row, found {int(bad.sum())} bad of {len(bad)} labels for "
            f"{len(features)} rows",
            action="train baselines on the same train samples as the model",
        )
    return {
        "majority": _constant(float(bad.mean())),
        "last_status": _last_status(features, bad),
        "logistic": _logistic(features, bad),
        "lightgbm": _trees(features, bad, seed, with_profile=True),
        "lightgbm_no_profile": _trees(features, bad, seed, with_profile=False),
    }


def feature_space(features: pd.DataFrame, *, with_profile: bool) -> FeatureSpace:
    """The numeric and the categorical columns; a profile key is numeric if all its values are."""
    chosen = [name for name in features.columns if with_profile or not name.startswith(_PROFILE)]
    words = {name for name in chosen if name.startswith(_STATUS)}
    words |= {name for name in chosen if name.startswith(_PROFILE) and not _is_numeric(features[name])}
    return FeatureSpace(
        numbers=tuple(name for name in chosen if name not in words),
        words={name: tuple(sorted(features[name].dropna().unique())) for name in chosen if name in words},
    )


def aligned(space: FeatureSpace, features: pd.DataFrame) -> pd.DataFrame:
    """The features in the columns of training: unseen categories and absent columns become missing values.

    A count or amount of an event type that this split lacks has no column: its value is 0, not missing.
    """
    columns: dict[str, object] = {}
    for name in space.numbers:
        absent = 0.0 if name.removeprefix(OTHER).startswith(("count_", "amount_")) else np.nan
        columns[name] = pd.to_numeric(features[name], errors="coerce") if name in features else absent
    for name, categories in space.words.items():
        values = features[name].astype(object) if name in features else [None] * len(features)
        columns[name] = pd.Categorical(values, categories=list(categories))
    return pd.DataFrame(columns, index=features.index)


def _constant(rate: float) -> Predictor:
    return lambda features: np.full(len(features), rate)


def _last_status(features: pd.DataFrame, bad: NDArray[np.bool_]) -> Predictor:
    """One pseudo-sample at the overall rate keeps the rate of a rare status between 0 and 1."""
    overall = float(bad.mean())
    grouped = pd.Series(bad.astype(np.float64)).groupby(_status_of(features).to_numpy())
    rates = (grouped.sum() + overall) / (grouped.count() + 1)

    def predict(rows: pd.DataFrame) -> Floats:
        return np.asarray(_status_of(rows).map(rates).fillna(overall), dtype=np.float64)

    return predict


def _status_of(features: pd.DataFrame) -> pd.Series:
    """Last status and its band of arrears, which distinguishes clients whose statuses share one event type."""
    days = features["dpd_lag_1"].fillna(0).to_numpy()
    band = np.where(days > 0, days // _ARREARS_STEP_DAYS + 1, 0).astype(int)
    words = zip(features[f"{_STATUS}1"].astype(str), band, strict=True)
    return pd.Series([f"{status}:{step}" for status, step in words])


def _logistic(features: pd.DataFrame, bad: NDArray[np.bool_]) -> Predictor:
    space = feature_space(features, with_profile=False)
    numbers = make_pipeline(
        SimpleImputer(strategy="constant", fill_value=0.0, keep_empty_features=True), StandardScaler()
    )
    words = OneHotEncoder(handle_unknown="ignore", min_frequency=20)
    columns = ColumnTransformer([("numbers", numbers, list(space.numbers)), ("words", words, list(space.words))])
    model = Pipeline([("columns", columns), ("model", LogisticRegression(C=0.1, max_iter=2000))])
    model.fit(_plain_words(aligned(space, features), space), bad)

    def predict(rows: pd.DataFrame) -> Floats:
        p_bad: Floats = model.predict_proba(_plain_words(aligned(space, rows), space))[:, 1]
        return p_bad

    return predict


def _plain_words(features: pd.DataFrame, space: FeatureSpace) -> pd.DataFrame:
    """Categories as strings; a missing or unseen category is an empty string."""
    words = {name: features[name].astype(object).where(features[name].notna(), "") for name in space.words}
    return features.assign(**words)


def _trees(features: pd.DataFrame, bad: NDArray[np.bool_], seed: int, *, with_profile: bool) -> Predictor:
    space = feature_space(features, with_profile=with_profile)
    data = lgb.Dataset(_numbered(aligned(space, features)), label=bad.astype(np.float64))
    booster = lgb.train({**_TREE_PARAMETERS, "seed": seed}, data, num_boost_round=_TREES)

    def predict(rows: pd.DataFrame) -> Floats:
        return np.asarray(booster.predict(_numbered(aligned(space, rows)), num_threads=1), dtype=np.float64)

    return predict


def _numbered(features: pd.DataFrame) -> pd.DataFrame:
    """Columns with numbered names: LightGBM rejects names with JSON characters, which profile keys may contain."""
    return features.set_axis([f"feature_{i}" for i in range(features.shape[1])], axis=1)


def _is_numeric(column: pd.Series) -> bool:
    stated = column.dropna()
    return bool(len(stated)) and bool(pd.to_numeric(stated, errors="coerce").notna().all())
