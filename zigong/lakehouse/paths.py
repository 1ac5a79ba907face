"""Every path of a lakehouse, derived from one absolute root."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from zigong.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class LakehousePaths:
    """Paths under one root.

    Attributes:
        root: absolute local path, or a URI such as ``s3://bucket/prefix``.
    """

    root: str

    @classmethod
    def at(cls, root: str) -> LakehousePaths:
        """Makes a relative local root absolute, because Ray and Spark workers have other working directories."""
        if "://" in root and not root.startswith("file://"):
            return cls(root=root.rstrip("/"))
        return cls(root=str(Path(root.removeprefix("file://")).expanduser().resolve()))

    @property
    def is_local(self) -> bool:
        """Whether the root is a folder of this machine or a shared mount."""
        return "://" not in self.root

    def table(self, name: str) -> str:
        """Delta table ``name`` as delta-rs and Arrow address it."""
        return f"{self.root}/tables/{name}"

    def spark_uri(self, path: str) -> str:
        """The same path as Spark addresses it (Hadoop speaks s3a)."""
        return path.replace("s3://", "s3a://", 1)

    def landing(self, name: str) -> str:
        """Folder of raw files that ZiGong itself creates (the simulator)."""
        return f"{self.root}/_landing/{name}"

    def local(self, *parts: str) -> Path:
        """A folder for files that are not tables: runs, models, registry.

        Raises:
            ConfigError: the root is an object store; run folders need a mounted path.
        """
        if not self.is_local:
            raise ConfigError(
                f"run folders need a local or mounted path, but lakehouse.root is {self.root}",
                action="mount the store, or set lakehouse.root to a shared file system",
            )
        return Path(self.root, *parts)
