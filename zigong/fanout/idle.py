"""Ends a wait for Ray in which nothing happens any more: nobody computes, and nothing finishes."""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

LOOKS_PER_WAIT = 10


class IdleError(Exception):
    """Nobody computed and nothing finished for the given time."""


class _Watch:
    """A thread that interrupts the main thread, as Ctrl-C would, after ``seconds`` without work or a sign."""

    def __init__(self, seconds: float, at_work: Callable[[], bool]) -> None:
        self._seconds, self._at_work = seconds, at_work
        self._since, self._stop = time.monotonic(), threading.Event()
        self.fired = False
        self._thread = threading.Thread(target=self._look, daemon=True, name="idle watch")
        self._thread.start()

    def sign(self) -> None:
        self._since = time.monotonic()

    def end(self) -> None:
        self._stop.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._stop.wait(self._seconds / LOOKS_PER_WAIT):
            if self._at_work():
                self.sign()
            elif time.monotonic() - self._since > self._seconds:
                self.fired = True
                signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
                return


def age_seconds(file: Path) -> float:
    """Seconds since the file was written; infinite without a file."""
    try:
        return time.time() - file.stat().st_mtime
    except FileNotFoundError:
        return math.inf


@contextmanager
def ended_if_idle(seconds: float, at_work: Callable[[], bool]) -> Iterator[Callable[[], None]]:
    """Ends the block after ``seconds`` in which nobody was at work and nothing finished.

    The wait inside Ray has no timeout, so the watch interrupts it like Ctrl-C, which is left alone itself. Outside the
    main thread there is no watch.

    Args:
        seconds: the longest time without work and without a sign.
        at_work: whether somebody computes.

    Yields:
        A function to call when something has finished.

    Raises:
        IdleError: the block was ended.
    """
    if threading.current_thread() is not threading.main_thread():
        yield lambda: None
        return
    watch = _Watch(seconds, at_work)
    try:
        try:
            yield watch.sign
        finally:
            watch.end()
    except KeyboardInterrupt as interrupt:
        if not watch.fired:
            raise
        raise IdleError(f"nothing happened for {seconds:g} s") from interrupt
