"""Location of the public data files, which the project does not ship."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.support.finished import REPOSITORY


def public_data(name: str) -> tuple[Path, list[pytest.MarkDecorator]]:
    """The folder of a data set, and marks for its tests: they are skipped with a reason if it is absent."""
    folder = Path(os.environ.get("ZIGONG_DATA", REPOSITORY.parent / "shared" / "data")) / name
    reason = f"{folder} is absent: set ZIGONG_DATA to the folder of the data sets"
    return folder, [pytest.mark.realdata, pytest.mark.skipif(not folder.is_dir(), reason=reason)]
