"""Every file of a folder is either read or named with the reason why it is not."""

from __future__ import annotations

from pathlib import Path

import pytest

from schemas.mappings import SourceFile
from zigong.behavior.sources.listing import Listing, listed
from zigong.errors import DataError


def listing(folder: Path, files: list[str], path: str, kind: str = "csv") -> Listing:
    for name in files:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    file = SourceFile(name="rows", path=path, format=kind, separator=",", header=True, null_values=(), columns=())
    return listed(file, str(folder))


def test_hidden_nested_and_other_files_are_named(tmp_path: Path) -> None:
    files = ["jan.csv", "feb.CSV.gz", "_mar.csv", ".apr.csv", "old/may.csv", "jan.csv.bak", "readme.txt", "_SUCCESS"]
    found = listing(tmp_path, [f"in/{name}" for name in files], "in")
    assert [item.name for item in found.read] == ["in/feb.CSV.gz", "in/jan.csv"]
    assert found.unread == {
        "in/_mar.csv": "its name or folder begins with _ or .",
        "in/.apr.csv": "its name or folder begins with _ or .",
        "in/old/may.csv": "in a subfolder",
        "in/jan.csv.bak": "its name does not end in .csv",
        "in/readme.txt": "its name does not end in .csv",
    }


def test_a_pattern_selects_files_and_the_others_are_named(tmp_path: Path) -> None:
    found = listing(tmp_path, ["in/a-1.txt", "in/a-2.txt", "in/b-1.txt", "other/a-3.txt"], "in/{a,c}-*.txt")
    assert [item.name for item in found.read] == ["in/a-1.txt", "in/a-2.txt"]
    assert found.unread == {"in/b-1.txt": "does not match path"}


def test_a_file_that_is_named_is_read_whatever_its_name(tmp_path: Path) -> None:
    found = listing(tmp_path, ["_x.asc", "y.asc"], "_x.asc")
    assert ([item.name for item in found.read], found.unread, found.several) == (["_x.asc"], {}, False)


def test_values_of_partition_folders_stay_the_texts_they_are(tmp_path: Path) -> None:
    (item,) = listing(tmp_path, ["in/id=007/day=2023-01/x=a%20b/part-0.csv"], "in").read
    assert item.partition == {"id": "007", "day": "2023-01", "x": "a b"}


def test_a_folder_of_one_other_ending_is_read_and_one_of_several_is_refused(tmp_path: Path) -> None:
    assert len(listing(tmp_path, ["one/a.dat", "one/b.dat"], "one").read) == 2
    with pytest.raises(DataError, match=r"several kinds \(\.dat, \.txt\)"):
        listing(tmp_path, ["two/a.dat", "two/b.txt"], "two")
    with pytest.raises(DataError, match="holds no file"):
        listing(tmp_path, ["three/.keep"], "three")
