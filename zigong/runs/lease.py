"""The lease of a run: at any time one process works on it, and whoever takes over is known by a larger token.

A lease is a numbered file in the run's folder, created exclusively; its number is the fencing token. The holder counts
heartbeats in it. Nobody compares clocks: another process takes over when the holder's process has gone from this
machine, or when it has watched the count stand still for ``EXPIRY_SECONDS``. The former holder is fenced by the
existence of the next number, and by Delta, which knows the token of the newest commit. An object store would need the
same two operations: a put that fails if the object exists, and an overwrite of one's own object.
"""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Self

from zigong.errors import ConflictError
from zigong.files.atomic import json_text, write_json, write_once

BEAT_SECONDS = 5.0
EXPIRY_SECONDS = 60.0
FOLDER = "lease"


@dataclass(frozen=True, kw_only=True)
class Holder:
    """What the file of a lease states.

    Attributes:
        token: number of the lease.
        step: the step it was taken for.
        machine: host and start of its system, so that process ids can be compared.
        beats: number of heartbeats so far.
        beat_at: time of the newest one by the holder's clock; for people.
        released: whether the holder has ended its work.
    """

    token: int
    step: str
    machine: str
    pid: int
    since: str
    beats: int = 0
    beat_at: str = ""
    released: bool = False

    @property
    def is_gone(self) -> bool:
        """Whether the holder was a process of this machine that has ended."""
        if self.machine != this_machine():
            return False
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return True
        except PermissionError:
            return False
        return False

    @property
    def seems_alive(self) -> bool:
        """Whether the holder works on, as far as one look can show: for lists of runs, never for a takeover."""
        if self.released or self.is_gone:
            return False
        newest = datetime.fromisoformat(self.beat_at or self.since)
        return datetime.now(UTC) - newest < timedelta(seconds=5 * EXPIRY_SECONDS)

    @property
    def text(self) -> str:
        """The holder for a message."""
        host = self.machine.partition("/")[0]
        return f"process {self.pid} on {host}, in {self.step} since {self.since}"


class Lease:
    """A lease that this process holds; a context that keeps it alive and releases it in the end."""

    def __init__(self, folder: Path, holder: Holder, *, beat_seconds: float) -> None:
        self._folder = folder
        self._holder = holder
        self._beat_seconds = beat_seconds
        self._stop = threading.Event()
        self._heart = threading.Thread(target=self._beat, daemon=True, name=f"lease {holder.token}")

    @property
    def token(self) -> int:
        """The fencing token."""
        return self._holder.token

    @property
    def is_held(self) -> bool:
        """Whether no later attempt has taken over."""
        return not _file(self._folder, self.token + 1).exists()

    def require_held(self) -> None:
        """Ends an attempt that has lost the run.

        Raises:
            ConflictError: a later attempt has taken over.
        """
        if not self.is_held:
            raise ConflictError(
                f"run {self._folder.parent.name}, step {self._holder.step}: attempt {self.token} was without a "
                f"heartbeat for too long and another process has taken over as attempt {self.token + 1}",
                action="nothing of this attempt was published since; wait for the other one to end",
            )

    def __enter__(self) -> Self:
        self._heart.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stop.set()
        self._heart.join()
        with suppress(OSError):  # a full disk: the end of the process shows the same
            write_json(_file(self._folder, self.token), asdict(replace(self._holder, released=True)))

    def _beat(self) -> None:
        while not self._stop.wait(self._beat_seconds) and self.is_held:
            self._holder = replace(self._holder, beats=self._holder.beats + 1, beat_at=_now())
            with suppress(OSError):  # the next beat may find space again
                write_json(_file(self._folder, self.token), asdict(self._holder))


def take_lease(
    run_folder: Path, step: str, *, beat_seconds: float = BEAT_SECONDS, expiry_seconds: float = EXPIRY_SECONDS
) -> Lease:
    """Takes the lease of a run, after a holder that has released it, has ended, or has stopped its heartbeat.

    Args:
        step: the step it is taken for.
        beat_seconds: time between two heartbeats.
        expiry_seconds: how long a count of heartbeats must stand still until the holder counts as dead.

    Raises:
        ConflictError: another process works on the run.
    """
    folder = run_folder / FOLDER
    newest = holder_of(run_folder)
    if newest is not None and not (newest.released or newest.is_gone):
        _watch(run_folder, newest, seconds=expiry_seconds)
    holder = Holder(
        token=(newest.token if newest else 0) + 1, step=step, machine=this_machine(), pid=os.getpid(), since=_now()
    )
    lease = Lease(folder, holder, beat_seconds=beat_seconds)
    if not write_once(_file(folder, holder.token), json_text(asdict(holder))):
        raise _busy(run_folder, holder_of(run_folder))
    return lease


def holder_of(run_folder: Path) -> Holder | None:
    """The newest holder of a run's lease, None if nobody ever took it."""
    tokens = [int(file.stem) for file in (run_folder / FOLDER).glob("*.json") if file.stem.isdigit()]
    if not tokens:
        return None
    try:
        return Holder(**json.loads(_file(run_folder / FOLDER, max(tokens)).read_text(encoding="utf-8")))
    except (ValueError, TypeError):  # its creator is writing it just now, on a mount without hard links
        return Holder(token=max(tokens), step="a step", machine="a machine that is just starting", pid=0, since=_now())


def this_machine() -> str:
    """The host, the start of its system and the space of its process ids: where process ids mean the same."""
    parts = [socket.gethostname()]
    with suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8").strip())
        parts.append(str(Path("/proc/self/ns/pid").readlink()))
    return "/".join(parts)


def _watch(run_folder: Path, holder: Holder, *, seconds: float) -> None:
    """Returns once the holder counts as dead.

    Raises:
        ConflictError: its heartbeat went on, or it has just ended its work.
    """
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        now = holder_of(run_folder)
        if now is None or now.is_gone:
            return
        if (now.token, now.beats, now.released) != (holder.token, holder.beats, holder.released):
            raise _busy(run_folder, now)
        time.sleep(min(0.5, seconds / 10))


def _busy(run_folder: Path, holder: Holder | None) -> ConflictError:
    at_work = f": {holder.text}" if holder else ""
    return ConflictError(
        f"run {run_folder.name} is being worked on by another process{at_work}",
        action="wait for it to end, then start the step again with the same run id; nothing was changed",
    )


def _file(folder: Path, token: int) -> Path:
    return folder / f"{token:06d}.json"


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
