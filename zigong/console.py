"""Output for people: a progress display on a terminal, JSON lines elsewhere. Never event text or raw ids."""

from __future__ import annotations

import json
import logging
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from zigong.files.atomic import write_text

CONSOLE = Console(stderr=True)
LOG = logging.getLogger("zigong")
SECONDS_BETWEEN_LINES = 15.0


def say(text: str) -> None:
    """Prints text with rich markup without wrapping lines: paths can be copied from a log."""
    CONSOLE.print(text, highlight=False, soft_wrap=True)


def say_error(kind: str, message: str, action: str, *, outcome: Path | None = None) -> None:
    """Prints the error, the next action, and the path of the outcome."""
    say(f"[red]{kind} error[/]: {escape(message)}\n  next: {escape(action)}")
    if outcome is not None:
        say(f"  outcome: {escape(str(outcome))}")


class Advance(Protocol):
    """Reports the progress of long work."""

    def __call__(self, done: int, total: int, note: str = "") -> None:
        """Reports ``done`` of ``total`` with a short note, such as the loss."""


class JsonLines(logging.Formatter):
    """One JSON object a line."""

    def __init__(self, run_id: str) -> None:
        super().__init__()
        self.run_id = run_id

    def format(self, record: logging.LogRecord) -> str:
        """Formats a record with time, level, run id and the fields given as ``extra={"fields": {...}}``."""
        moment = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        fields = getattr(record, "fields", {})
        line = {"at": moment, "level": record.levelname, "run_id": self.run_id, "event": record.getMessage(), **fields}
        return json.dumps(line, default=str)


def set_up_logging(run_id: str) -> None:
    """Sends the log of ZiGong to standard error: only warnings on a terminal, where progress is shown instead."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines(run_id))
    handler.setLevel(logging.WARNING if CONSOLE.is_terminal else logging.INFO)
    LOG.handlers[:] = [handler]
    LOG.setLevel(logging.INFO)
    LOG.propagate = False
    logging.captureWarnings(True)
    logging.getLogger("py.warnings").setLevel(logging.ERROR)  # deprecations inside the engines are not for users


@contextmanager
def progress(title: str) -> Iterator[Advance]:
    """A bar with time left on a terminal; a log line every few seconds elsewhere."""
    if not CONSOLE.is_terminal:
        yield _log_lines(title)
        return
    columns = (TextColumn("    [dim]{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    pace = Pace()
    with Progress(
        *columns, TimeRemainingColumn(), TextColumn("[dim]{task.fields[note]}"), console=CONSOLE, transient=True
    ) as bars:
        task = bars.add_task(title, total=None, note="")

        def advance(done: int, total: int, note: str = "") -> None:
            if pace.reach(done, total):
                bars.reset(task, completed=done, total=total)  # work done before does not count for the speed
            bars.update(task, completed=done, total=total, note=note or pace.text)

        yield advance


class Pace:
    """The speed of work; work done before the first report, as in a resumed run, does not count."""

    def __init__(self) -> None:
        self._first: tuple[float, int] | None = None
        self.per_second: float | None = None
        self.seconds_left: float | None = None

    def reach(self, done: int, total: int) -> bool:
        """Takes a report; whether it is the first."""
        now = time.monotonic()
        if self._first is None:
            self._first = (now, done)
            return True
        since, before = self._first
        if done > before and now > since:
            self.per_second = (done - before) / (now - since)
            self.seconds_left = (total - done) / self.per_second
        return False

    @property
    def text(self) -> str:
        """The pace as text, empty before it is known."""
        return f"{self.per_second:,.1f}/s" if self.per_second else ""


def _log_lines(title: str) -> Advance:
    last, pace = time.monotonic(), Pace()

    def advance(done: int, total: int, note: str = "") -> None:
        nonlocal last
        pace.reach(done, total)
        if time.monotonic() - last >= SECONDS_BETWEEN_LINES:
            last = time.monotonic()
            known = {"per_second": pace.per_second, "seconds_left": pace.seconds_left}
            rounded = {name: round(figure, 1) for name, figure in known.items() if figure is not None}
            LOG.info(title, extra={"fields": {"done": done, "total": total, "note": note, **rounded}})

    return advance


@contextmanager
def followed(file: Path, title: str) -> Iterator[Advance]:
    """Shows progress that another process reports; yields the callback for that process, which writes ``file``."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.unlink(missing_ok=True)
    stop = threading.Event()
    with progress(title) as advance:
        follower = threading.Thread(target=_follow, args=(file, advance, stop), daemon=True)
        follower.start()
        try:
            yield ProgressFile(file)
        finally:
            stop.set()
            follower.join()
            file.unlink(missing_ok=True)


class ProgressFile:
    """Writes progress where another process can read it, at most once a second."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self._last = 0.0

    def __call__(self, done: int, total: int, note: str = "") -> None:
        """Writes the state atomically."""
        if time.monotonic() - self._last < 1.0:
            return
        self._last = time.monotonic()
        write_text(self.file, json.dumps([done, total, note]))


def _follow(file: Path, advance: Advance, stop: threading.Event) -> None:
    while not stop.wait(1.0):
        if file.is_file():
            advance(*json.loads(file.read_text(encoding="utf-8")))
