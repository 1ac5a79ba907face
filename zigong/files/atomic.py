"""A file or folder that a reader finds whole, as it was or as it is now."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4


@contextmanager
def promoted_file(file: Path) -> Iterator[Path]:
    """Gives a path of its own beside ``file``, which becomes ``file`` once the block ends without an error.

    After an error nothing is left of it: on a full disk even a small file is in the way. Each writer has its own, so of
    several at once the last one stays, whole.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_name(f".{file.name}.{uuid4().hex}.part")
    try:
        yield partial
        partial.replace(file)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


@contextmanager
def promoted_folder(folder: Path) -> Iterator[Path]:
    """Gives an empty folder beside ``folder`` and renames it to ``folder`` once the block ends without an error."""
    partial = folder.with_name(f".{folder.name}.partial")
    former = folder.with_name(f".{folder.name}.former")
    for leftover in (partial, former):
        shutil.rmtree(leftover, ignore_errors=True)
    partial.mkdir(parents=True)
    yield partial
    if folder.exists():
        folder.rename(former)
    partial.rename(folder)
    shutil.rmtree(former, ignore_errors=True)


def write_text(file: Path, text: str) -> None:
    """Writes a text as UTF-8, whole or not at all."""
    with promoted_file(file) as partial:
        partial.write_text(text, encoding="utf-8")


def write_json(file: Path, content: object) -> None:
    """Writes JSON whole or not at all, keys sorted; what JSON has no form for becomes its text."""
    write_text(file, json.dumps(content, indent=2, sort_keys=True, default=str) + "\n")
