"""The rows of a table of histories that belong to the members of a dataset."""

from __future__ import annotations

import pandas as pd
import pyarrow as pa

from zigong.errors import DataError

KEYS = ("user_id", "loan_id", "observation_date")


def rows_of_members(rows: pa.Table, members: pa.Table, *, table: str) -> pa.Table:
    """The row of each member, in the order of the members.

    Args:
        rows: rows of one population with KEYS.
        members: rows of dataset_members.
        table: the table of the rows.

    Raises:
        DataError: a member has no row.
    """
    known, wanted = (pd.MultiIndex.from_arrays([found[name].to_pandas() for name in KEYS]) for found in (rows, members))
    places = known.get_indexer(wanted)
    if (places < 0).any():
        raise DataError(
            f"{int((places < 0).sum())} of {len(members)} members have no row in {table}, first "
            f"{members['sample_id'][int((places < 0).argmax())]}",
            action="the steps that build sequences, features and the dataset belong to one run: start them again",
        )
    return rows.take(pa.array(places))
