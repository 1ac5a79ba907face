"""Baselines without a language model, from a constant to boosted trees and a GRU, on the same samples."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import torch
from numpy.typing import NDArray
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from zigong.dataset.samples import of_task
from zigong.errors import DataError
from zigong.evaluation.boosting import BoostedTrees, Labelled, Predictor, boosted_trees
from zigong.evaluation.feature_space import FeatureSpace, aligned, feature_space
from zigong.evaluation.published_features import PublishedFeatures
from zigong.evaluation.recurrent import fit_recurrent, recurrent_answers
from zigong.evaluation.scorecard import scorecard
from zigong.features.names import LOANS, PROFILE, STATUS, is_of_other_loans
from zigong.instructions.tasks import main_task
from zigong.runs.job import Job
from zigong.tokens.samples import Samples

Floats = NDArray[np.float64]

SEEDS = 3  # of LightGBM, whose log-odds are averaged
TREES_OF_A_CARD = ("lightgbm", "lightgbm_no_profile")  # the better ones on ``select`` are the card's
STOPPED_ON = "select"  # the split on which the number of trees is chosen
_ARREARS_STEP_DAYS = 30


@dataclass(frozen=True, kw_only=True)
class Baselines:
    """Every baseline on the held-out members.

    Attributes:
        p_bad: probabilities by name; shape [held-out members] each.
        trees: the fitted LightGBM baselines by name.
        train: the members that they were fitted on.
        train_features: features of these.
        features: features of the held-out members, in their order.
    """

    p_bad: dict[str, Floats]
    trees: dict[str, BoostedTrees]
    train: pa.Table
    train_features: pd.DataFrame
    features: pd.DataFrame


def baselines_of(job: Job, held_out: pa.Table) -> Baselines:
    """Answers of every baseline to held-out members, fitted on the run's train members of the main question.

    Args:
        job: the job that reads the tables.
        held_out: members of the run's dataset; those of split ``select`` choose the number of trees.
    """
    train = of_task(job.sample_source().members(["train"]), main_task(job.recipe))
    features = features_of_members(job, pa.concat_tables([train, held_out]))
    of_train, of_held_out = features.iloc[: len(train)], features.iloc[len(train) :]
    selects = pc.equal(held_out["split"], STOPPED_ON).to_numpy()
    stop = Labelled(features=of_held_out[selects], bad=bad_members(held_out)[selects])
    fitted = fit_baselines(Labelled(features=of_train, bad=bad_members(train)), stop, job.recipe.seed)
    p_bad = {name: predict(of_held_out) for name, predict in fitted.items()}
    p_bad |= _recurrent(job, train, held_out, selects)
    trees = {name: found for name, found in fitted.items() if isinstance(found, BoostedTrees)}
    return Baselines(p_bad=p_bad, trees=trees, train=train, train_features=of_train, features=of_held_out)


def _recurrent(job: Job, train: pa.Table, held_out: pa.Table, selects: NDArray[np.bool_]) -> dict[str, Floats]:
    """The answers of the GRU, if the recipe asks for it."""
    epochs = job.recipe.evaluation.gru_epochs
    if not epochs:
        return {}
    source = job.sample_source()
    fitted_on, asked = (Samples.from_arrow(source.with_prompts(members)) for members in (train, held_out))
    torch.set_num_threads(job.recipe.engine.torch_threads)
    model = fit_recurrent(fitted_on, asked.take(np.flatnonzero(selects)), epochs=epochs, seed=job.recipe.seed)
    return {"gru": recurrent_answers(model, asked)}


def features_of_members(job: Job, members: pa.Table) -> pd.DataFrame:
    """The published features of members of the run's dataset, in their order.

    Args:
        job: the job that reads the tables.
        members: rows of dataset_members.
    """
    return PublishedFeatures.of(job).read(members)


def fit_baselines(train: Labelled, stop: Labelled | None, seed: int) -> dict[str, Predictor]:
    """Fits every baseline on the training samples.

    ``majority`` is the bad rate; ``last_status`` the bad rate by last status and 30-day band of arrears; ``logistic``
    uses one-hot status lags and the numeric features; ``scorecard`` bins of all features; ``lightgbm`` all features,
    ``lightgbm_no_profile`` all but the profile, and ``lightgbm_no_other_loans``, which exists where a loan is observed,
    all but those that depend on the client's other loans. The three are means of ``SEEDS`` seeds. Nothing else than the
    number of trees and the scorecard's penalty is tuned.

    Args:
        train: the training samples.
        stop: samples of the split ``select``, which choose number of trees and penalty; None: they are fixed.
        seed: seed of the column and row sampling of the trees.

    Returns:
        One predictor per name above; each maps features of any split to p_bad.

    Raises:
        DataError: labels and features differ in number, or labels contain only one class.
    """
    features, bad = train.features, train.bad
    if len(bad) != len(features) or not train.has_both_classes:
        raise DataError(
            f"expected both classes, one label per row, found {int(bad.sum())} bad of {len(bad)} labels for "
            f"{len(features)} rows",
            action="train baselines on the same train samples as the model",
        )
    every = list(features.columns)
    return {
        "majority": constant(float(bad.mean())),
        "last_status": _last_status(features, bad),
        "logistic": logistic(features, bad, feature_space(features, without_profile(every))),
        "scorecard": scorecard(train, stop, every),
        **{
            name: boosted_trees(train, stop, feature_space(features, columns), seed=seed, seeds=SEEDS)
            for name, columns in columns_of_trees(every).items()
        },
    }


def columns_of_trees(every: list[str]) -> dict[str, list[str]]:
    """The features that each LightGBM baseline uses, by name."""
    used = {"lightgbm": every, "lightgbm_no_profile": without_profile(every)}
    if LOANS in every:
        used["lightgbm_no_other_loans"] = [name for name in every if not is_of_other_loans(name)]
    return used


def without_profile(columns: list[str]) -> list[str]:
    """The columns that are not of the profile."""
    return [name for name in columns if not name.startswith(PROFILE)]


def bad_members(members: pa.Table) -> NDArray[np.bool_]:
    """Whether each member of a dataset is bad."""
    bad: NDArray[np.bool_] = members["label"].to_numpy() == 1
    return bad


def constant(rate: float) -> Predictor:
    """The same probability for every sample."""
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
    words = zip(features[f"{STATUS}1"].astype(str), band, strict=True)
    return pd.Series([f"{status}:{step}" for status, step in words])


def logistic(features: pd.DataFrame, bad: NDArray[np.bool_], space: FeatureSpace) -> Predictor:
    """Logistic regression on standardised numbers and one-hot words, fitted on training samples.

    A missing number is 0 with an indicator of its own: no arrears at all differ from arrears in this month.
    """
    missing = SimpleImputer(strategy="constant", fill_value=0.0, keep_empty_features=True, add_indicator=True)
    words = OneHotEncoder(handle_unknown="ignore", min_frequency=20)
    numbers = make_pipeline(missing, StandardScaler())
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
