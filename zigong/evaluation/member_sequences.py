"""The sequences that the members of a dataset were rendered from."""

from __future__ import annotations

import pandas as pd
import pyarrow as pa

from zigong.errors import DataError

_KEYS = ("user_id", "loan_id", "observation_date")


def sequences_of_members(sequences: pa.Table, members: pa.Table) -> pa.Table:
    """The sequence of each member, in the order of the members.

    Args:
        sequences: rows of user_sequences of one population.
        members: rows of dataset_members.

    Raises:
        DataError: a member has no sequence.
    """
    known, wanted = (
        pd.MultiIndex.from_arrays([table[name].to_pandas() for name in _KEYS]) for table in (sequences, members)
    )
    places = known.get_indexer(wanted)
    if (places < 0).any():
        raise DataError(
            f"{int((places < 0).sum())} of {len(members)} members have no sequence, first "
            f"{members['sample_id'][int((places < 0).argmax())]}",
            action="build_sequences and build_dataset belong to one run: start both again",
        )
    return sequences.take(pa.array(places))
