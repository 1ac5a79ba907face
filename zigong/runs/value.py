"""What all values that steps pass to later steps are, and those among them that have files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar, TypeVar

from pydantic import ConfigDict, StringConstraints

Digest = Annotated[str, StringConstraints(pattern="^[0-9a-f]{64}$")]
Name = Annotated[str, StringConstraints(min_length=1)]


@dataclass(frozen=True, kw_only=True)
class Value:
    """A value that one step writes and later steps, the report and the commands read."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid", strict=True)


@dataclass(frozen=True, kw_only=True)
class Artefact(Value):
    """A value with files in the folder of its run.

    Attributes:
        SUBFOLDER: where the step writes the files, relative to the run's folder.
        DIGEST_FIELD: field of the digest over names and contents of ``FILES``.
        FILES: patterns of the files in the folder that the digest covers.
        folder: of the files; absolute here, relative to the run's folder in the manifest.
    """

    SUBFOLDER: ClassVar[str]
    DIGEST_FIELD: ClassVar[str]
    FILES: ClassVar[tuple[str, ...]]

    folder: Path


V = TypeVar("V", bound=Value)
