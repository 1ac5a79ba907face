"""What is promoted is whole: readers and later attempts never meet a half of it."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from zigong.files.atomic import promoted_file, promoted_folder, write_json, write_text


def test_a_reader_finds_the_former_file_until_the_new_one_is_complete(tmp_path: Path) -> None:
    file = tmp_path / "below" / "answer.txt"
    write_text(file, "former")
    with promoted_file(file) as partial:
        partial.write_text("n")
        assert file.read_text() == "former"
        partial.write_text("new")
    assert file.read_text() == "new"
    assert list(file.parent.iterdir()) == [file]


@pytest.mark.parametrize("error", [OSError("No space left on device"), KeyboardInterrupt()])
def test_a_failed_write_keeps_the_former_file_and_nothing_else(tmp_path: Path, error: BaseException) -> None:
    file = tmp_path / "answer.txt"
    write_text(file, "former")
    with pytest.raises(type(error)), promoted_file(file) as partial:
        partial.write_text("half")
        raise error
    assert file.read_text() == "former"
    assert list(tmp_path.iterdir()) == [file]


def test_of_several_concurrent_writers_one_result_remains_complete(tmp_path: Path) -> None:
    file, contents = tmp_path / "manifest.json", [[number] * 20_000 for number in range(8)]
    with ThreadPoolExecutor(8) as pool:
        for _ in pool.map(lambda content: write_json(file, content), contents):
            assert json.loads(file.read_text()) in contents
    assert list(tmp_path.iterdir()) == [file]


def test_a_folder_keeps_its_former_content_until_the_block_ends(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    with promoted_folder(folder) as partial:
        (partial / "former").touch()
    with pytest.raises(ValueError, match="broken"), promoted_folder(folder) as partial:
        (partial / "new").touch()
        raise ValueError("broken")
    assert [file.name for file in folder.iterdir()] == ["former"]
    with promoted_folder(folder) as partial:  # over what the failed attempt left
        (partial / "newer").touch()
    assert [file.name for file in folder.iterdir()] == ["newer"]
    assert list(tmp_path.iterdir()) == [folder]
