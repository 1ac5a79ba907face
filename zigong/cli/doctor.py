"""The checks of ``zigong doctor``: the parts of a machine that a run needs."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from zigong.errors import ZigongError

PACKAGES = (
    "pyspark",
    "delta-spark",
    "deltalake",
    "ray",
    "torch",
    "transformers",
    "peft",
    "great-expectations",
    "mlflow",
)
GIB = 1024**3
MEMORY_WANTED_GIB = 6


@dataclass(frozen=True, kw_only=True)
class MachineCheck:
    """One part of the machine; ``action``: what to do if it is not ok."""

    part: str
    found: str
    ok: bool
    action: str = ""


def examine() -> list[MachineCheck]:
    """Checks packages, Java, Spark with Delta, and memory."""
    return [*_packages(), _java(), _memory(), *_spark()]


def _packages() -> list[MachineCheck]:
    findings = []
    for name in PACKAGES:
        try:
            findings.append(MachineCheck(part=name, found=version(name), ok=True))
        except PackageNotFoundError:
            findings.append(MachineCheck(part=name, found="not installed", ok=False, action="run `make env`"))
    return findings


def _java() -> MachineCheck:
    home = os.environ.get("JAVA_HOME")
    program = str(Path(home) / "bin" / "java") if home else shutil.which("java")
    action = "install Java 17 (Debian, Ubuntu: apt-get install openjdk-17-jre-headless) or set JAVA_HOME"
    if program is None or not Path(program).is_file():
        return MachineCheck(part="java", found="missing", ok=False, action=action)
    answer = subprocess.run([program, "-version"], capture_output=True, text=True, check=False, timeout=60)
    line = next((text for text in answer.stderr.splitlines() if "version" in text), answer.stderr.strip())
    return MachineCheck(part="java", found=line, ok='"17' in line or '"21' in line, action=action)


def _memory() -> MachineCheck:
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / GIB
    ok = total >= MEMORY_WANTED_GIB
    return MachineCheck(
        part="memory", found=f"{total:.1f} GiB", ok=ok, action=f"{MEMORY_WANTED_GIB} GiB are recommended"
    )


def _spark() -> list[MachineCheck]:
    from zigong.lakehouse.session import open_spark
    from zigong.recipe import Engine

    def start() -> str:
        session = open_spark(Engine(), app_name="zigong doctor")
        found = f"{session.version}, Delta catalog {session.conf.get('spark.sql.catalog.spark_catalog')}"
        session.stop()
        return found

    return [tried("spark with delta", start)]


def tried(part: str, attempt: Callable[[], str]) -> MachineCheck:
    """A check that says what it found, or raises an error of ZiGong."""
    try:
        return MachineCheck(part=part, found=attempt(), ok=True)
    except ZigongError as error:
        return MachineCheck(part=part, found=error.message, ok=False, action=error.action)
