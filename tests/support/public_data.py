"""Location of the public data files, which the project does not ship."""

from __future__ import annotations

import os
from pathlib import Path

import pandas as pd
import pytest

from tests.support.finished import REPOSITORY


def public_data(name: str) -> tuple[Path, list[pytest.MarkDecorator]]:
    """The folder of a data set, and marks for its tests: they are skipped with a reason if it is absent."""
    folder = Path(os.environ.get("ZIGONG_DATA", REPOSITORY.parent / "shared" / "data")) / name
    reason = f"{folder} is absent: set ZIGONG_DATA to the folder of the data sets"
    return folder, [pytest.mark.realdata, pytest.mark.skipif(not folder.is_dir(), reason=reason)]


def slice_of_credit_record(source: Path, folder: Path, *, every: int) -> None:
    """Writes the files of some persons of credit_record: about one in ``every``, each with all accounts.

    Args:
        source: folder of the complete files.
        folder: folder of the slice.
        every: a person is chosen by the hash of the application, which equal applications share.
    """
    folder.mkdir(parents=True, exist_ok=True)
    accounts = pd.read_csv(source / "application_record.csv.gz", dtype=str)
    statuses = pd.read_csv(source / "credit_record.csv.gz", dtype=str)
    fields = accounts.drop(columns="ID").fillna("")
    accounts["person"] = pd.util.hash_pandas_object(fields, index=False).to_numpy()
    others = statuses.loc[~statuses["ID"].isin(accounts["ID"]), "ID"].drop_duplicates()
    alone = others[pd.util.hash_pandas_object(others, index=False).to_numpy() % every == 0]
    chosen = accounts[accounts["person"].to_numpy() % every == 0]
    kept = statuses[statuses["ID"].isin(pd.concat([chosen["ID"], alone]))]
    kept.to_csv(folder / "credit_record.csv.gz", index=False)
    chosen.drop(columns="person").to_csv(folder / "application_record.csv.gz", index=False)
