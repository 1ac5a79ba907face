"""Verifies the files of a model folder by digest, so that a replaced, truncated or added file is reported by name."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from zigong.errors import ConfigError, DataError
from zigong.files.digests import combined_digest, file_digest
from zigong.training.adapters import CONFIG, WEIGHTS
from zigong.training.folders import refuse_pickles
from zigong.training.pretrained import CONFIG as BASE_CONFIG
from zigong.training.pretrained import INDEX, TOKENIZER, weight_files

_BASE_OPTIONAL = (INDEX, "generation_config.json", "tokenizer_config.json", "special_tokens_map.json")


@dataclass(frozen=True, kw_only=True)
class FileDigests:
    """The expected digests of the files of a folder.

    Attributes:
        files: SHA-256 of each file by name, as 64 hex digits.
    """

    files: Mapping[str, str]

    @classmethod
    def of(cls, folder: Path, names: Collection[str]) -> Self:
        """The digests of the named files of a folder.

        Raises:
            ConfigError: one of them is missing.
        """
        missing = sorted(name for name in names if not (folder / name).is_file())
        if missing:
            raise ConfigError(f"{folder} lacks {', '.join(missing)}", action="give a complete model folder")
        return cls(files={name: file_digest(folder / name) for name in sorted(names)})

    @property
    def digest(self) -> str:
        """SHA-256 over names and contents."""
        return combined_digest(self.files)

    def verify(self, folder: Path, names: Collection[str] | None = None) -> None:
        """Verifies the contents of a folder's files.

        Args:
            folder: folder of the files.
            names: files to verify; None: all.

        Raises:
            DataError: a file is missing or differs; the message names it.
        """
        for name in sorted(self.files if names is None else names):
            file = folder / name
            found = file_digest(file) if file.is_file() else "no file"
            if found != self.files[name]:
                raise DataError(
                    f"{file}: expected SHA-256 {self.files[name]}, found {found}",
                    action="restore the file from its backup; the model is not loaded until then",
                )

    def refuse_others(self, folder: Path) -> None:
        """Rejects a folder with other files, since libraries load some of them, such as another adapter, implicitly.

        Raises:
            DataError: there is another file; the message names it.
        """
        found = {str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file()}
        others = sorted(found - set(self.files))
        if others:
            raise DataError(
                f"{folder}: expected only {', '.join(self.files)}, found {', '.join(others)} as well",
                action="remove what was added; the model is not loaded until then",
            )


def base_digests(folder: Path) -> FileDigests:
    """The digests of the base model files that are read for serving: weights, model config and tokenizer.

    Raises:
        ConfigError: one of them is missing, or the folder has pickled weights.
    """
    weights = [file.name for file in weight_files(folder)]
    optional = [name for name in _BASE_OPTIONAL if (folder / name).is_file()]
    return FileDigests.of(folder, [*weights, BASE_CONFIG, TOKENIZER, *optional])


def adapter_digests(folder: Path) -> FileDigests:
    """The digests of the files of an adapter; their combined digest equals ``adapters.adapter_digest``.

    Raises:
        ConfigError: one of them is missing, or the folder has pickled weights.
    """
    refuse_pickles(folder)
    return FileDigests.of(folder, [WEIGHTS, CONFIG])
