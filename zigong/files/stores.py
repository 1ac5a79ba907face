"""Files below one root, wherever it lies: a local folder or an object store, through Arrow's file systems."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from pyarrow.fs import FileInfo, FileSelector, FileSystem, FileType, LocalFileSystem


@dataclass(frozen=True, kw_only=True)
class StoredFile:
    """A file of a store.

    Attributes:
        path: relative to the root of the store.
        size: in bytes.
        modified: when it was written last.
    """

    path: str
    size: int
    modified: datetime


@dataclass(frozen=True, kw_only=True)
class Store:
    """A root and the file system that holds it; every path is relative to the root, with ``/`` between its parts."""

    system: FileSystem
    root: str

    def full(self, path: str) -> str:
        """A path as the file system knows it."""
        return f"{self.root}/{path}" if path else self.root

    def folders(self, path: str) -> list[str]:
        """The folders directly below a folder, sorted; none where it does not exist."""
        return sorted(self._relative(info.path) for info in self._below(path) if info.type == FileType.Directory)

    def files(self, path: str, *, suffix: str = "") -> list[StoredFile]:
        """All files below a folder whose names end in ``suffix``, sorted by path; none where it does not exist."""
        found = [
            StoredFile(path=self._relative(info.path), size=info.size, modified=info.mtime)
            for info in self._below(path, recursive=True)
            if info.type == FileType.File and info.path.endswith(suffix)
        ]
        return sorted(found, key=lambda file: file.path)

    def missing(self, paths: Sequence[str]) -> list[str]:
        """Those of some files that do not exist."""
        found = self.system.get_file_info([self.full(path) for path in paths]) if paths else []
        return [path for path, info in zip(paths, found, strict=True) if info.type != FileType.File]

    def remove_folder(self, path: str) -> None:
        """Removes a folder with everything below it; one that does not exist is removed already."""
        try:
            self.system.delete_dir(self.full(path))
        except FileNotFoundError:
            return

    def _below(self, path: str, *, recursive: bool = False) -> list[FileInfo]:
        found: list[FileInfo] = self.system.get_file_info(
            FileSelector(self.full(path), allow_not_found=True, recursive=recursive)
        )
        return found

    def _relative(self, path: str) -> str:
        return path.removeprefix(self.root).removeprefix("/")


def store_of(uri: str) -> Store:
    """The store below a local path or a URI such as ``s3://bucket/prefix``."""
    if "://" not in uri:
        return Store(system=LocalFileSystem(), root=uri.rstrip("/"))
    system, root = FileSystem.from_uri(uri)
    return Store(system=system, root=root.rstrip("/"))
