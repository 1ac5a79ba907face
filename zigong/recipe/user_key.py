"""Takes the key of the pseudonyms out of the environment, where every child process would find it."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

from zigong.errors import ConfigError

KEY_VARIABLE = "ZIGONG_USER_KEY"
KEY_FILE_VARIABLE = "ZIGONG_USER_KEY_FILE"  # for spark-submit, whose JVM starts before this process
_taken: dict[str, str] = {}


def taken_key() -> str:
    """The key that this process was started with, empty without one; from now on only this process knows it.

    Called before a JVM or a cluster starts, so that neither they nor their workers inherit the key.

    Raises:
        ConfigError: the file that should hold the key cannot be read.
    """
    value = os.environ.get(KEY_VARIABLE)
    if value is not None:
        _overwrite(KEY_VARIABLE)
        del os.environ[KEY_VARIABLE]
        _taken[KEY_VARIABLE] = value
    file = os.environ.get(KEY_FILE_VARIABLE)
    if value is None and file:
        try:
            return Path(file).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(
                f"{KEY_FILE_VARIABLE} {file} cannot be read: {type(error).__name__}",
                action="name a text file that holds the key alone and that only the user of the jobs may read",
            ) from None
    return _taken.get(KEY_VARIABLE, "")


def _overwrite(variable: str) -> None:
    """Overwrites the value where it lies: removed from the environment, it would remain in /proc/PID/environ."""
    getenv = ctypes.CDLL(None).getenv
    getenv.argtypes, getenv.restype = [ctypes.c_char_p], ctypes.c_void_p
    address = getenv(variable.encode())
    if address:
        ctypes.memset(address, ord("x"), len(ctypes.string_at(address)))
