"""Atomic writes: a reader finds the complete former or the complete new file or folder."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

_NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK)  # of mounts without hard links


@contextmanager
def promoted_file(file: Path) -> Iterator[Path]:
    """Gives a path of its own next to ``file``, which becomes ``file`` once the block ends without an error.

    After an error nothing is left of it: on a full disk even a small file is in the way. Each writer has its own, so of
    several at once the complete result of the last one remains.
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
    """Gives an empty folder next to ``folder`` and renames it to ``folder`` once the block ends without an error."""
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


def write_text(file: Path, text: str, *, mode: int | None = None) -> None:
    """Writes a text as UTF-8, completely or not at all; ``mode`` are its permissions, by default those of the umask."""
    with promoted_file(file) as partial:
        partial.write_text(text, encoding="utf-8")
        if mode is not None:
            partial.chmod(mode)


def write_once(file: Path, text: str) -> bool:
    """Creates a file with its complete content, unless it exists; returns whether this call created it.

    Of several writers at once, on one machine or on a shared disk, exactly one creates it. In an object store the same
    is a put under the condition that the object does not exist.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    prepared = file.with_name(f".{file.name}.{uuid4().hex}.part")
    try:
        prepared.write_text(text, encoding="utf-8")
        os.link(prepared, file)
    except FileExistsError:
        return False
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        return _write_exclusively(file, text)  # exclusive too, but a reader may find the file still empty
    finally:
        prepared.unlink(missing_ok=True)
    return True


def _write_exclusively(file: Path, text: str) -> bool:
    try:
        with file.open("x", encoding="utf-8") as out:
            out.write(text)
    except FileExistsError:
        return False
    return True


def write_json(file: Path, content: object, *, mode: int | None = None) -> None:
    """Writes JSON completely or not at all, keys sorted; what JSON has no form for becomes its text."""
    write_text(file, json_text(content), mode=mode)


def json_text(content: object) -> str:
    """The text that :func:`write_json` writes."""
    return json.dumps(content, indent=2, sort_keys=True, default=str) + "\n"
